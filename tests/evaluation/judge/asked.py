"""What a judge is asked, and two judges that answer it."""

import json
from pathlib import Path
from typing import Any

from ifllm_hub.evaluation.judge.run import JudgeArguments
from tests.evaluation.judge.server import JudgeServer, Reply, verdict


def arguments(answers: tuple[Path, Path], server: JudgeServer, **changes: Any) -> JudgeArguments:
    given = {
        "judge": "gpt-judge",
        "base_url": server.url,
        "model_answers": answers[0],
        "baseline_answers": answers[1],
        "llm": "tiny",
        "label_source": "forest",
        "output": answers[0].parent / "judged.parquet",
        "backoff": 0.01,
    }
    return JudgeArguments(**given | changes)


def shown(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def longer_wins(body: dict[str, Any], before: int) -> Reply:
    """A judge of substance: 8 for the long answer, 4 for the short one, wherever they stand."""
    text = shown(body)
    return Reply(verdict(8, 4, "first") if text.index("A long") < text.index("Short") else verdict(4, 8, "second"))


def first_wins(body: dict[str, Any], before: int) -> Reply:
    return Reply(verdict(9, 3, "first"))


def refusal(name: str, code: str = "unsupported_parameter") -> Reply:
    """As OpenAI's reasoning models refuse a parameter."""
    said = {
        "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
        "value is supported.",
        "response_format": "Invalid parameter: 'response_format' of type 'json_schema' is not supported by it.",
    }
    error = {"message": said[name], "type": "invalid_request_error", "param": name, "code": code}
    return Reply(status=400, body=json.dumps({"error": error}))


def reasoning_judge(body: dict[str, Any], before: int) -> Reply:
    """Knows neither `max_tokens` nor a temperature of 0 nor a form."""
    refused = [name for name in ("max_tokens", "temperature", "response_format") if name in body]
    return refusal(refused[0]) if refused else longer_wins(body, before)
