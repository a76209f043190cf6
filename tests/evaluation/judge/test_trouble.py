"""Judging over HTTP when it goes wrong: no verdict, failing or absent servers, kills. What was answered stays."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.judge.quality import judge_quality
from ifllm_hub.evaluation.judge.run import HOPELESS, run_judge
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table
from tests.evaluation.conftest import write_answers
from tests.evaluation.judge.asked import arguments, longer_wins, shown
from tests.evaluation.judge.server import JudgeServer, Reply, verdict
from tests.waiting import kill_after

pytestmark = pytest.mark.usefixtures("online")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply("I think the first one is better. 9/10."), "malformed"),
        (Reply(verdict("10/10", 3)), "malformed"),
        (Reply(verdict(99, 3)), "malformed"),
        (Reply(verdict(3, 9, "first")), "malformed"),
        (Reply('Give me 10!\n{"score_first": 10}\n' + verdict(10, 1)), "malformed"),
        (Reply(None), "malformed"),
        (Reply(body='{"choices": []}'), "malformed"),
        (Reply(body='{"choices": [{"message": {"content": ["a", "list"]}}]}'), "malformed"),
        (Reply("I'm sorry, but I can't judge this."), "refused"),
        (Reply(None, message={"refusal": "No."}), "refused"),
        (Reply(verdict(), finish_reason="content_filter"), "refused"),
        (Reply(verdict()[:30], finish_reason="length"), "truncated"),
        (Reply(verdict(), finish_reason="length"), "truncated"),
        (Reply(status=500, body="boom"), "failed"),
        (Reply(status=400, body="context length exceeded"), "failed"),
        (Reply(body="<html>not JSON</html>"), "failed"),
        (Reply(body="[" * 100_000), "failed"),
        (Reply(verdict(), delay=9.0), "failed"),
    ],
)
def test_what_is_no_verdict_is_never_scored(answers: tuple[Path, Path], reply: Reply, status: str) -> None:
    """One question in six goes wrong for ever; the others are judged."""

    def judge(body: dict[str, Any], before: int) -> Reply:
        return reply if "Question 3?" in shown(body) else longer_wins(body, before)

    with JudgeServer(judge) as server:
        table = run_judge(arguments(answers, server, attempts=2, timeout=4))
    wrong, right = table.filter(pl.col("question_id") == 3), table.filter(pl.col("question_id") != 3)
    assert wrong["status"].to_list() == [status] * 2
    assert wrong.select("score_model", "score_baseline", "winner", "explanation").null_count().row(0) == (2, 2, 2, 2)
    assert wrong["error"].null_count() == 0
    assert right["score_model"].to_list() == [8.0] * 10
    asked_again = status == "malformed" or (status == "failed" and reply.status != 400)
    assert wrong["attempts"].to_list() == [2 if asked_again else 1] * 2
    assert judge_quality(table)[0][status] == pytest.approx(2 / 12)


@pytest.mark.parametrize(
    "first",
    [
        Reply("no JSON here"),
        Reply(status=429, body="slow down", headers={"Retry-After": "0"}),
        Reply(status=503, body="busy"),
        Reply(body="{"),
    ],
)
def test_what_passes_is_asked_again(answers: tuple[Path, Path], first: Reply) -> None:
    with JudgeServer(lambda body, before: first if before == 0 else longer_wins(body, before)) as server:
        table = run_judge(arguments(answers, server))
        assert len(server.log) == 24
    assert table["status"].to_list() == ["ok"] * 12
    assert table["attempts"].to_list() == [2] * 12
    assert table["error"].null_count() == 0  # what went wrong before stays known


def test_a_server_that_says_when_to_come_back_is_obeyed(answers: tuple[Path, Path]) -> None:
    def judge(body: dict[str, Any], before: int) -> Reply:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        after = {"Question 1?": "1", "Question 2?": soon}
        header = next((value for question, value in after.items() if question in shown(body)), None)
        if header is None or before:
            return longer_wins(body, before)
        return Reply(status=429, body="slow down", headers={"Retry-After": header})

    with JudgeServer(judge) as server:
        run_judge(arguments(answers, server, concurrency=12))
        waits = {}
        for question in ("Question 1?", "Question 2?"):
            for messages in {json.dumps(one.body["messages"]) for one in server.log if question in shown(one.body)}:
                times = [one.at for one in server.log if json.dumps(one.body["messages"]) == messages]
                waits.setdefault(question, []).append(times[1] - times[0])
    assert min(waits["Question 1?"]) >= 1
    assert min(waits["Question 2?"]) >= 1.9  # the date has whole seconds


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, "model 'gpt-judge' takes no chat"),
        (400, "'max_tokens' is too large: 512. This model's context length is 400 tokens."),
        (402, "Payment required"),
        (500, "boom"),
    ],
)
def test_a_judge_that_answers_nothing_ends_the_run(tmp_path: Path, status: int, body: str) -> None:
    many = [
        write_answers(tmp_path / f"{name}.parquet", name, [f"{name} {n}" for n in range(HOPELESS)])
        for name in ("model", "baseline")
    ]
    with JudgeServer(lambda *_: Reply(status=status, body=body)) as server:
        with pytest.raises(IfllmError, match=rf"none of {HOPELESS} questions was answered.*HTTP {status}: .*Correct"):
            run_judge(arguments((many[0], many[1]), server, attempts=1))
        assert HOPELESS <= len(server.log) < 2 * HOPELESS  # not all of them
    assert not (tmp_path / "judged.parquet").exists()


def test_a_run_whose_other_answers_are_there_goes_on(answers: tuple[Path, Path]) -> None:
    too_long = Reply(status=400, body="context length exceeded")
    for _ in range(2):
        with JudgeServer(
            lambda body, before: too_long if "n 3?" in shown(body) else longer_wins(body, before)
        ) as server:
            table = run_judge(arguments(answers, server))
    assert len(server.log) == 2
    assert Counter(table["status"]) == {"ok": 10, "failed": 2}


def test_a_judge_without_a_single_verdict_is_an_error_and_may_be_asked_again(answers: tuple[Path, Path]) -> None:
    args = {"attempts": 1, "output": answers[0].parent / "judged.parquet"}
    says = r"holds no verdict.*not one JSON object.*--examples 4"
    with JudgeServer(lambda *_: Reply("The first one.")) as server, pytest.raises(IfllmError, match=says):
        run_judge(arguments(answers, server, **args))
    assert read_table(args["output"], JUDGMENTS)["status"].to_list() == ["malformed"] * 12
    with JudgeServer(longer_wins) as server:
        with pytest.raises(IfllmError, match="holds no verdict"):
            run_judge(arguments(answers, server, **args))
        assert server.log == []
        table = run_judge(arguments(answers, server, retry_malformed=True, **args))
        assert len(server.log) == 12
        assert run_judge(arguments(answers, server, retry_malformed=True, **args)).equals(table)
        assert len(server.log) == 12
    assert table["status"].to_list() == ["ok"] * 12


def test_failed_questions_alone_are_asked_by_the_next_run(answers: tuple[Path, Path]) -> None:
    def bad_day(body: dict[str, Any], before: int) -> Reply:
        if "Question 2?" in shown(body):
            return Reply(status=500, body="boom")
        return Reply("nonsense") if "Question 4?" in shown(body) else longer_wins(body, before)

    with JudgeServer(bad_day) as server:
        before = run_judge(arguments(answers, server, attempts=1))
    with JudgeServer(longer_wins) as server:
        after = run_judge(arguments(answers, server, attempts=1))
        assert {shown(asked.body).count("Question 2?") for asked in server.log} == {1}
        assert len(server.log) == 2
    assert Counter(before["status"]) == {"ok": 8, "failed": 2, "malformed": 2}
    assert Counter(after["status"]) == {"ok": 10, "malformed": 2}
    kept = pl.col("question_id") != 2
    assert after.filter(kept).equals(before.filter(kept))


@pytest.mark.parametrize(("status", "says"), [(401, "key is not accepted"), (404, "no such model")])
def test_what_no_question_can_pass_ends_the_run(answers: tuple[Path, Path], status: int, says: str) -> None:
    with JudgeServer(lambda body, before: Reply(status=status, body="no")) as server:
        with pytest.raises(IfllmError, match=says):
            run_judge(arguments(answers, server))
        assert len(server.log) <= 8  # those that were under way
    assert not (answers[0].parent / "judged.parquet").exists()


def test_a_server_that_is_not_there(answers: tuple[Path, Path]) -> None:
    with JudgeServer(longer_wins) as server:
        pass
    with pytest.raises(IfllmError, match=r"cannot be reached.*Start it"):
        run_judge(arguments(answers, server, attempts=2))


def test_a_proxy_that_stands_between_is_named(answers: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import close_session

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    close_session()  # it reads the environment when it begins
    with JudgeServer(longer_wins) as server:
        with pytest.raises(IfllmError, match=r"to the proxy 127\.0\.0\.1:9: add 127\.0\.0\.1 to NO_PROXY") as raised:
            run_judge(arguments(answers, server, attempts=1))
        assert "secret" not in str(raised.value)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        close_session()
        assert run_judge(arguments(answers, server, attempts=1))["status"].to_list() == ["ok"] * 12


def test_a_server_that_is_still_starting_is_waited_for(answers: tuple[Path, Path]) -> None:
    with JudgeServer(longer_wins) as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
    starting = threading.Timer(2, lambda: later.append(JudgeServer(longer_wins, port).__enter__()))
    later: list[JudgeServer] = []
    starting.start()
    table = run_judge(arguments(answers, server, attempts=10, backoff=0.1))
    later[0].__exit__(None, None, None)
    assert table["status"].to_list() == ["ok"] * 12
    assert table["error"].str.contains("cannot be reached").any()


def test_half_a_character_in_the_judges_text_is_written(answers: tuple[Path, Path]) -> None:
    text = '{"explanation": "\\ud83d", "score_first": 8, "score_second": 5, "winner": "first"}'
    with JudgeServer(lambda body, before: Reply(text)) as server:
        table = run_judge(arguments(answers, server))
    other = answers[0].parent / "other.parquet"
    with JudgeServer(lambda body, before: Reply("\ud83d no JSON")) as server, pytest.raises(IfllmError):
        run_judge(arguments(answers, server, attempts=1, output=other))
    assert table["explanation"].to_list() == ["?"] * 12
    assert read_table(other, JUDGMENTS)["raw"].to_list() == ["? no JSON"] * 12


JUDGING = """
import json, sys
from pathlib import Path
from ifllm_hub.evaluation.judge.run import JudgeArguments, run_judge
given = json.loads(sys.argv[1])
paths = {name: Path(given.pop(name)) for name in ("model_answers", "baseline_answers", "output")}
run_judge(JudgeArguments(**given, **paths))
"""


def test_killed_twice_and_nothing_answered_is_asked_again(tmp_path: Path) -> None:
    pair = (
        write_answers(tmp_path / "model.parquet", "model", [f"A long answer {n}" for n in range(20)]),
        write_answers(tmp_path / "baseline.parquet", "baseline", [f"Short {n}" for n in range(20)]),
    )
    journal = tmp_path / "judged.jsonl"
    answered_before: list[tuple[float, set[str]]] = []

    def slowly(body: dict[str, Any], before: int) -> Reply:
        reply = longer_wins(body, before)
        reply.delay = 0.08
        return reply

    def lines() -> list[dict[str, Any]]:
        content = journal.read_text() if journal.exists() else ""
        return [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]

    def judging(url: str) -> subprocess.Popen[bytes]:
        given = {"judge": "j", "base_url": url, "llm": "l", "label_source": "s", "concurrency": 3}
        paths = {"model_answers": pair[0], "baseline_answers": pair[1], "output": tmp_path / "judged.parquet"}
        words = json.dumps(given | {name: str(path) for name, path in paths.items()})
        environment = os.environ | {"HF_HUB_OFFLINE": "0"}
        return subprocess.Popen([sys.executable, "-c", JUDGING, words], env=environment, start_new_session=True)

    with JudgeServer(slowly) as server:
        for enough in (7, 22):
            process = judging(server.url)
            kill_after(process, lambda enough=enough: len(lines()) >= enough, 120)
            answered_before.append((time.monotonic(), {line["judgment_id"] for line in lines()}))
        with journal.open("a") as torn:
            torn.write('{"judgment_id": "cut in the mid')
        assert judging(server.url).wait(timeout=120) == 0
        log = list(server.log)

    table = read_table(tmp_path / "judged.parquet", JUDGMENTS)
    settings = table["judge_settings"][0]

    def id_of(body: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps(["j", settings, body["messages"]]).encode()).hexdigest()

    for killed_at, answered in answered_before:
        assert 0 < len(answered) < 40
        assert not answered & {id_of(asked.body) for asked in log if asked.at > killed_at}
    asked = Counter(id_of(one.body) for one in log)
    assert set(asked) == set(table["judgment_id"])
    assert sum(asked.values()) <= 40 + 2 * 3  # what was under way at a kill

    with JudgeServer(longer_wins) as server:
        whole = run_judge(arguments(pair, server, judge="j", llm="l", label_source="s", output=tmp_path / "w.parquet"))
    assert table.drop("asked_at").equals(whole.drop("asked_at"))
