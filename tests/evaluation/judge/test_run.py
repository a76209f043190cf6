"""Judging over HTTP: orders, what is sent, dialects of judges, and bad input."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.judge.quality import judge_quality
from ifllm_hub.evaluation.judge.run import JudgeArguments, run_judge, summary
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table
from tests.evaluation.conftest import write_answers
from tests.evaluation.judge.asked import arguments, first_wins, longer_wins, reasoning_judge, shown
from tests.evaluation.judge.server import JudgeServer, Reply

pytestmark = pytest.mark.usefixtures("online")


def test_both_orders_are_turned_back_to_model_and_baseline(answers: tuple[Path, Path]) -> None:
    with JudgeServer(longer_wins) as server:
        table = run_judge(arguments(answers, server))
        assert len(server.log) == 12
    assert table.group_by("order").len().sort("order").rows() == [("baseline_first", 6), ("model_first", 6)]
    assert table["score_model"].to_list() == [8.0] * 12
    assert table["score_baseline"].to_list() == [4.0] * 12
    assert set(table["winner"]) == {"model"}
    assert judge_quality(table)[0]["position_consistency"]["mean"] == 1
    written = read_table(answers[0].parent / "judged.parquet", JUDGMENTS)
    assert written.equals(table)
    assert written["prompt_tokens"].sum() == 1200
    assert written["label_source"].unique().to_list() == ["forest"]


def test_a_judge_that_always_prefers_the_first_answer_is_found_out(answers: tuple[Path, Path]) -> None:
    with JudgeServer(first_wins) as server:
        table = run_judge(arguments(answers, server))
    assert (table["score_model"] - table["score_baseline"]).mean() == 0
    quality = judge_quality(table)[0]
    assert quality["position_consistency"]["mean"] == 0
    assert quality["first_position"]["mean"] == 1


def test_what_is_sent(answers: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("JUDGE_KEY", "sk-judge")
    with JudgeServer(first_wins) as server:
        table = run_judge(arguments(answers, server))
        run_judge(arguments(answers, server, api_key_variable="JUDGE_KEY", output=answers[0].parent / "again.parquet"))
    body = server.log[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-judge", 0, 512)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["strict"] is True
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    assert list(properties) == ["explanation", "score_first", "score_second", "winner"]
    # The Hub's token is for the Hub.
    assert not [asked for asked in server.log if "hf_secret" in str(asked.headers)]
    assert [value for name, value in server.log[-1].headers.items() if name.lower() == "authorization"] == [
        "Bearer sk-judge"
    ]
    assert "sk-judge" not in (answers[0].parent / "again.jsonl").read_text()
    # The id as documented, from what came over the wire.
    settings = table["judge_settings"][0]
    ids = {
        hashlib.sha256(json.dumps(["gpt-judge", settings, asked.body["messages"]]).encode()).hexdigest()
        for asked in server.log
    }
    assert ids == set(table["judgment_id"])
    assert settings == json.dumps(json.loads(settings), sort_keys=True)


def test_a_server_without_structured_output_is_asked_in_words(answers: tuple[Path, Path]) -> None:
    def judge(body: dict[str, Any], before: int) -> Reply:
        if "response_format" in body:
            return Reply(status=400, body='{"error": "response_format is not supported"}')
        return longer_wins(body, before)

    with JudgeServer(judge) as server:
        table = run_judge(arguments(answers, server, concurrency=1))
        assert len(server.log) == 13  # refused once, then left out
    assert table["status"].to_list() == ["ok"] * 12
    assert table["attempts"].to_list() == [1] * 12


def test_a_judge_of_another_dialect(answers: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    with JudgeServer(reasoning_judge) as server:
        table = run_judge(arguments(answers, server, concurrency=4))
        asked = [
            one.body for one in server.log if not {"max_tokens", "temperature", "response_format"} & one.body.keys()
        ]
        assert len(asked) == 12
        assert {body["max_completion_tokens"] for body in asked} == {512}
        assert len(server.log) <= 12 + 3 * 4  # each of the first four questions is refused thrice, and no other
        said = [record.getMessage() for record in caplog.records if "refuses" in record.getMessage()]
        assert [one.rpartition(" refuses ")[2] for one in said] == [
            "max_tokens; max_completion_tokens is sent instead",
            "temperature; the server's default is used",
            "response_format; the prompt alone asks for the format",
        ]
        assert table["status"].to_list() == ["ok"] * 12
        assert table["attempts"].to_list() == [1] * 12
        # The table says how they were asked, and the next run finds them again.
        (settings,) = table["judge_settings"].unique().to_list()
        sent = {"max_completion_tokens": 512, "temperature": None, "structured": False}
        assert json.loads(settings).items() >= sent.items()
        assert "max_tokens" not in json.loads(settings)
        before = len(server.log)
        assert run_judge(arguments(answers, server)).equals(table)
        assert len(server.log) == before


def test_a_question_without_an_answer_does_not_tell_settings_apart(answers: tuple[Path, Path]) -> None:
    def judge(body: dict[str, Any], before: int) -> Reply:
        return Reply(status=500, body="boom") if "Question 3?" in shown(body) else reasoning_judge(body, before)

    with JudgeServer(judge) as server:
        table = run_judge(arguments(answers, server, attempts=1, concurrency=12))
    assert Counter(table["status"]) == {"ok": 10, "failed": 2}
    assert table["judge_settings"].n_unique() == 1


def test_a_judge_whose_template_opens_its_thought(answers: tuple[Path, Path]) -> None:
    def judge(body: dict[str, Any], before: int) -> Reply:
        reply = longer_wins(body, before)
        return Reply(f"Both are short. {{Hm.}}\n</think>\n\n{reply.content}")

    with JudgeServer(judge) as server:
        assert run_judge(arguments(answers, server))["status"].to_list() == ["ok"] * 12


def test_identical_answers_are_one_question(tmp_path: Path) -> None:
    same = (write_answers(tmp_path / "a.parquet", "a", ["Yes."]), write_answers(tmp_path / "b.parquet", "b", ["Yes."]))
    with JudgeServer(first_wins) as server:
        table = run_judge(arguments(same, server))
        assert len(server.log) == 1
    assert table.select("order", "score_model", "score_baseline").rows() == [
        ("model_first", 9.0, 3.0),
        ("baseline_first", 3.0, 9.0),
    ]


def test_one_answer_alone(answers: tuple[Path, Path]) -> None:
    with JudgeServer(lambda body, before: Reply(json.dumps({"explanation": "Fair.", "score": 6}))) as server:
        table = run_judge(arguments(answers, server, mode="single", baseline_answers=None))
        assert len(server.log) == 6
        assert "Short" not in str(server.log[0].body)
    assert table["score_model"].to_list() == [6.0] * 6
    empty = ("order", "winner", "baseline", "baseline_revision", "answer_baseline", "score_baseline")
    assert table.select(empty).null_count().row(0) == (6,) * 6


def test_the_reference_preset(answers: tuple[Path, Path]) -> None:
    lines = "SCORE_A: 8\nSCORE_B: 5\nWINNER: A\nREASONING: A says more."
    with JudgeServer(lambda body, before: Reply(lines)) as server:
        table = run_judge(arguments(answers, server, preset="reference"))
        assert len(server.log) == 6
        assert {asked.body["temperature"] for asked in server.log} == {1}
        assert not [asked for asked in server.log if "response_format" in asked.body]
    assert set(table["order"]) == {"model_first", "baseline_first"}
    for row in table.iter_rows(named=True):
        first = "model" if row["order"] == "model_first" else "baseline"
        assert (row["winner"], row[f"score_{first}"]) == (first, 8.0)
    assert json.loads(table["judge_settings"][0])["prompt"] == "reference-1"


def test_pairs_that_people_rated(dataset: Path, tmp_path: Path) -> None:
    with JudgeServer(first_wins) as server:
        args = JudgeArguments(
            judge="m", base_url=server.url, dataset=str(dataset), pairs=8, output=tmp_path / "people.parquet"
        )
        table = run_judge(args)
    pairwise = pl.concat(pl.read_parquet(file) for file in (dataset / "data" / "pairwise").glob("*.parquet"))
    joined = table.join(pairwise, on="question_id")
    assert joined.height == 16
    assert (joined["answer_model"] == joined["response_left"]).all()
    assert (joined["baseline"] == joined["model_right"]).all()
    assert set(table["label_source"]) == {"human"}
    assert judge_quality(table, pairwise)[0]["agreement"]["mean"] == 0.5


def test_dry_run_asks_nothing(answers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with JudgeServer(first_wins) as server:
        run_judge(arguments(answers, server, dry_run=True))
        assert server.log == []
    out = capsys.readouterr().out
    assert "A long and careful answer to 0" in out
    assert "12 judgments by gpt-judge" in out
    assert not (answers[0].parent / "judged.jsonl").exists()


def test_a_folder_is_judged_by_under_a_name(answers: tuple[Path, Path]) -> None:
    with JudgeServer(first_wins) as server:
        table = run_judge(arguments(answers, server, judge="/a/folder", judge_name="my-judge"))
        assert {asked.body["model"] for asked in server.log} == {"/a/folder"}
    assert set(table["judge"]) == {"my-judge"}


def test_cost() -> None:
    record = {"status": "ok", "prompt_tokens": 1_000_000, "answer_tokens": 500_000}
    unknown = {"status": "refused", "prompt_tokens": None, "answer_tokens": None}
    told = summary([record, record, unknown], prompt_price=0.4, answer_price=1.6)
    assert told == "2 ok, 1 refused; 2000000 prompt and 1000000 answer tokens, $2.4000 (1 without token counts)"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"llm": None}, "llm and label_source"),
        ({"dataset": "ORG/ifllm"}, "either model_answers"),
        ({"baseline_answers": None}, "baseline_answers or dataset"),
        ({"mode": "single"}, "Mode single"),
        ({"mode": "single", "preset": "reference", "baseline_answers": None}, "reference preset"),
        ({"attempts": 0}, "at least 1"),
        ({"output": Path("judged.csv")}, r"\.parquet"),
        ({"api_key_variable": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"provider": "together"}, "one of them"),
        ({"base_url": None}, "hf auth login"),
    ],
)
def test_settings_that_do_not_go_together(answers: tuple[Path, Path], changes: dict[str, Any], says: str) -> None:
    with JudgeServer(first_wins) as server, pytest.raises(IfllmError, match=says):
        run_judge(arguments(answers, server, **changes))


def test_offline_is_said(answers: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with JudgeServer(first_wins) as server, pytest.raises(IfllmError, match="HF_HUB_OFFLINE is set"):
        run_judge(arguments(answers, server))


def test_answers_to_different_prompts_are_not_compared(answers: tuple[Path, Path], tmp_path: Path) -> None:
    table = pl.read_parquet(answers[1])
    other = table.with_columns(messages=pl.col("messages").list.reverse().list.concat(pl.col("messages")))
    other.write_parquet(tmp_path / "other.parquet")
    table.with_columns(question_id=pl.col("question_id") + 100).write_parquet(tmp_path / "apart.parquet")
    pl.concat([table, table]).write_parquet(tmp_path / "twice.parquet")
    pl.concat([table, pl.read_parquet(answers[0])]).write_parquet(tmp_path / "both.parquet")
    with JudgeServer(first_wins) as server:
        for name, says in (
            ("other", "6 questions with different prompts"),
            ("apart", "share no question"),
            ("twice", "holds a question twice"),
            ("both", "several models"),
            ("not_there", "cannot be read"),
        ):
            with pytest.raises(IfllmError, match=says):
                run_judge(arguments((answers[0], tmp_path / f"{name}.parquet"), server))
        assert server.log == []
