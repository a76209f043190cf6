"""RealHumanEval's chats as a source: what copying says about answers, from a table made up in its format."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.importing import import_dataset
from ifllm_hub.sources.real_human_eval import FACTS, open_real_human_eval
from ifllm_hub.sources.source import Recorded

COLUMNS = ["request", "response", "copy_events", "logprobs", "programmer_id", "timestamp", "model", "task_name"]


def answer(seconds: float, *copied: str, programmer: int = 7, task: str = "sums", **more: Any) -> dict[str, Any]:
    events = [{"type": "copy_button", "copied": text} for text in copied]
    row = {
        "request": repr([{"content": f'how, "{seconds}"?\n', "role": "user"}]),
        "response": f"like this:\n```\n{seconds}\n```",
        "copy_events": repr(events),
        "logprobs": "{'max': 0}",
        "programmer_id": programmer,
        "timestamp": seconds,
        "model": "a model (chat)",
        "task_name": task,
    }
    return row | more


def table(folder: Path, rows: list[dict[str, Any]], columns: list[str] = COLUMNS) -> Path:
    file = folder / "chat_data.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


def read(folder: Path, rows: list[dict[str, Any]]) -> Recorded[Counter[str]]:
    source = open_real_human_eval(table(folder, rows))
    return source.read(list(source.people))


def test_an_answer_is_passed_over_if_a_later_one_was_copied_from(tmp_path: Path) -> None:
    rows = [answer(0.0), answer(9.5, "x"), answer(30.0), answer(41.0, " \n"), answer(50.0, task="others")]
    source = open_real_human_eval(table(tmp_path, [answer(0.25, "y", programmer=12), *rows]))
    assert source.people == {"realhumaneval_12": 1, "realhumaneval_7": 2}
    recorded = source.read(["realhumaneval_7"])
    assert recorded.account == {
        "answers: copied from": 1,
        "answers: passed over": 1,
        "answers: neither copied from nor passed over": 3,
    }
    sums = recorded.questions.filter(pl.col("conversation_id").is_first_distinct().cum_sum() == 2)
    assert sums.select("turn", "kto_copied", "seconds", "seconds_to_next").rows() == [
        (1, False, 0.0, 9.5),
        (2, True, 9.5, 20.5),
        (3, None, 30.0, 11.0),
        (4, None, 41.0, None),
    ]
    assert set(recorded.questions["mode"]) == {"pointwise"}
    assert recorded.questions.select("rating_left", "preference", "response_right").null_count().row(0) == (5, 5, 5)
    assert recorded.trajectories["question_id"].to_list() == recorded.questions["question_id"].to_list()
    assert recorded.trajectories["t"].list.len().to_list() == [0] * 5


@given(copied=st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_labels_are_those_counted_from_the_end(copied: list[list[bool]], tmp_path: Path) -> None:
    rows = [
        answer(float(10 * turn), *(["x"] if one else []), task=f"task {task}")
        for task, turns in enumerate(copied)
        for turn, one in enumerate(turns)
    ]
    expected: Counter[bool] = Counter()
    for turns in copied:
        used = False
        for one in reversed(turns):
            used = used or one
            if used:
                expected[one] += 1
    source = open_real_human_eval(table(tmp_path, rows[::-1]))
    labels = source.read(list(source.people)).questions["kto_copied"]
    assert Counter(labels.drop_nulls()) == expected
    assert source.read(list(source.people)).account.total() == len(rows)


def test_rows_for_trainers_show_the_chat_that_the_model_saw(tmp_path: Path) -> None:
    chat = [
        {"content": "first", "role": "user"},
        {"content": "it's \\d", "role": "assistant"},
        {"content": "half: \ud83d \U0001f600", "role": "user"},
    ]
    source = open_real_human_eval(table(tmp_path, [answer(1.0, "x", request=ascii(chat), response="so")]))
    import_dataset(source, FACTS, tmp_path / "out")
    (row,) = map(json.loads, (tmp_path / "out/trl/kto_copied.jsonl").read_text().splitlines())
    assert [message["content"] for message in row["prompt"]] == ["first", "it's \\d", "half: ? \U0001f600"]
    assert row["completion"] == [{"role": "assistant", "content": "so"}]
    assert row["label"] is True
    (stored,) = load_config(tmp_path / "out", "pointwise").rows(named=True)
    assert (stored["worker_id"], stored["messages"]) == ("realhumaneval_7", row["prompt"])


def test_other_rows_are_counted(tmp_path: Path) -> None:
    asked = repr([{"content": "?", "role": "user"}, {"content": "!", "role": "assistant"}])
    rows = [answer(1.0), answer(1.0), answer(2.0, request="[]"), answer(3.0, request=asked, programmer=8)]
    source = open_real_human_eval(table(tmp_path, rows))
    assert source.read(list(source.people)).account == {
        "answers: neither copied from nor passed over": 1,
        "answers: twice in the table": 1,
        "answers: without a question": 2,
    }
    assert source.workers == {"realhumaneval_7", "realhumaneval_8"}


def test_the_clone_and_its_folder_do_as_well_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = table(tmp_path / "data", [answer(1.0)])
    for path in (tmp_path, tmp_path / "data", file):
        assert open_real_human_eval(path).people == {"realhumaneval_7": 1}
    file.unlink()
    with pytest.raises(IfllmError, match=r"no chat_data\.csv is there\. Clone https"):
        open_real_human_eval(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"request": "[{'content': 'open"},
        {"request": "[{'role': 'user'}]"},
        {"request": "[{'content': 1, 'role': 'user'}]"},
        {"request": "[1]"},
        {"request": "{}"},
        {"request": "print(1)"},
        {"request": "[" * 5000},
        {"request": ""},
        {"copy_events": "[{'type': 'copy_button'}]"},
        {"copy_events": "[{'copied': None}]"},
        {"timestamp": "nan"},
        {"timestamp": -1},
        {"timestamp": "soon"},
        {"programmer_id": "anna"},
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    file = table(tmp_path, [answer(0.0), answer(1.0, **change)])
    with pytest.raises(IfllmError, match=r"chat_data\.csv: answer 2 is damaged .*Clone"):
        open_real_human_eval(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "cannot be read"),
        (";".join(COLUMNS) + "\n", "its columns are"),
        (",".join(COLUMNS[1:]) + "\n", "its columns are"),
        (",".join([*COLUMNS, "consent"]) + "\n", "its columns are"),
        ("version https://git-lfs.github.com/spec/v1\n", "its columns are"),
        (",".join(COLUMNS) + "\n" + "1," * 30 + "\n", "cannot be read"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "chat_data.csv"
    file.write_text(content)
    with pytest.raises(IfllmError, match=says):
        open_real_human_eval(file)


@given(
    cells=st.fixed_dictionaries(
        {
            name: st.text(st.characters(exclude_categories=["Cs"])) | st.just(str(answer(1.0, "x")[name]))
            for name in COLUMNS
        }
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_any_cells_are_an_error_or_a_source(cells: dict[str, str], tmp_path: Path) -> None:
    try:
        recorded = read(tmp_path, [answer(0.0), cells])
    except IfllmError:
        return
    assert recorded.account.total() == 2
    assert recorded.questions["question_id"].is_unique().all()
