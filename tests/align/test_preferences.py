"""Preference pairs: what is read, what is refused, and that chosen stays chosen."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value

from ifllm_hub.align.preferences import fingerprint, hub_commit, limit_test, load_preferences
from ifllm_hub.errors import IfllmError

MESSAGES = List({"role": Value("string"), "content": Value("string")})
FEATURES = Features(
    {
        "question_id": Value("int64"),
        "worker_id": Value("string"),
        "label_source": Value("string"),
        "prompt": MESSAGES,
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "flip_prob": Value("float64"),
        "rating_chosen": Value("int64"),
        "rating_rejected": Value("int64"),
    }
)


def pair(question: int, worker: str, source: str = "forest", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": question,
        "worker_id": worker,
        "label_source": source,
        "prompt": [{"role": "user", "content": f"question {question}"}],
        "chosen": [{"role": "assistant", "content": f"better answer to {question}"}],
        "rejected": [{"role": "assistant", "content": f"worse answer to {question}"}],
        "flip_prob": 0.25,
        "rating_chosen": 5,
        "rating_rejected": None,
    } | changes


TRAIN = [pair(1, "ann"), pair(2, "ann", "explicit", flip_prob=0.0), pair(3, "bob")]
TEST = [pair(4, "eve", "explicit", flip_prob=0.0), pair(5, "eve")]


def write(
    folder: Path, train: list[dict[str, Any]] = TRAIN, test: list[dict[str, Any]] = TEST, config: str = "preferences"
) -> Path:
    """A folder laid out as the Hub repo, with one config; a split without rows is left out."""
    entries = []
    for split, rows in (("train", train), ("test", test)):
        if rows:
            file = f"data/preferences/{split}-00000-of-00001.parquet"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_list(rows, features=FEATURES).to_parquet(folder / file)
            entries.append(f"  - split: {split}\n    path: data/preferences/{split}-*.parquet\n")
    readme = f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{''.join(entries)}---\n"
    (folder / "README.md").write_text(readme)
    return folder


def test_rows_of_the_label_source_and_the_columns_of_a_trainer(tmp_path: Path) -> None:
    folder = write(tmp_path)
    preferences = load_preferences(folder)
    assert preferences["train"]["question_id"] == [1, 3]
    assert preferences["test"]["question_id"] == [5]
    assert preferences["train"].column_names == ["question_id", "prompt", "chosen", "rejected", "flip_prob"]
    assert load_preferences(str(folder), "explicit")["train"]["flip_prob"] == [0.0]


def test_chosen_is_what_the_row_says_was_preferred(tmp_path: Path) -> None:
    row = load_preferences(write(tmp_path))["train"][1]
    assert row["prompt"] == [{"role": "user", "content": "question 3"}]
    assert row["chosen"] == [{"role": "assistant", "content": "better answer to 3"}]
    assert row["rejected"] == [{"role": "assistant", "content": "worse answer to 3"}]


def test_unknown_label_source_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"'gaze'.*It has: forest \(3 pairs\), explicit \(2 pairs\)"):
        load_preferences(write(tmp_path), "gaze")


def test_another_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"no config 'preferences'; it has: pairwise"):
        load_preferences(write(tmp_path, config="pairwise"))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        pytest.param([pair(4, "eve", "explicit")], "test split .* has no pair with label source 'forest'", id="no row"),
        pytest.param([], "no test split; it has: train", id="no split"),
    ],
)
def test_both_splits_are_needed(tmp_path: Path, test: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        load_preferences(write(tmp_path, test=test))


@pytest.mark.parametrize("flip_prob", [None, 0.5, 0.7, -0.1, float("nan")])
def test_flip_probability_outside_the_half_open_interval(tmp_path: Path, flip_prob: float | None) -> None:
    folder = write(tmp_path, train=[pair(1, "ann"), pair(7, "ann", flip_prob=flip_prob)])
    with pytest.raises(IfllmError, match=r"1 of 2 pairs in the train split .* flip_prob .* question_id 7"):
        load_preferences(folder)


def test_a_wrong_pair_of_another_label_source_does_not_matter(tmp_path: Path) -> None:
    folder = write(tmp_path, train=[pair(1, "ann"), pair(1, "ann", "text", flip_prob=0.9)])
    assert len(load_preferences(folder)["train"]) == 1


def test_chosen_equal_to_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path, test=[pair(9, "eve", rejected=pair(9, "eve")["chosen"])])
    with pytest.raises(IfllmError, match=r"1 of 1 pairs in the test split .* same text .* question_id 9"):
        load_preferences(folder)


def test_a_worker_in_both_splits(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"1 worker\(s\) .* 'ann'.* not be held out"):
        load_preferences(write(tmp_path, test=[pair(4, "ann")]))


def test_workers_without_an_id_are_not_one_worker(tmp_path: Path) -> None:
    rows = [pair(1, "ann", worker_id=None)]
    assert len(load_preferences(write(tmp_path, train=rows, test=rows))["test"]) == 1


def test_missing_column(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for file in folder.glob("data/preferences/*.parquet"):
        Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "rewrite")).remove_columns("flip_prob").to_parquet(
            file
        )
    with pytest.raises(IfllmError, match=r"lacks the column\(s\) flip_prob"):
        load_preferences(folder)


@pytest.mark.parametrize("where", ["./nowhere", "/no/such/folder", Path("ORG/name"), "three/part/name"])
def test_a_folder_that_does_not_exist(where: str | Path) -> None:
    with pytest.raises(IfllmError, match=r"(does not exist|cannot be read)"):
        load_preferences(where)


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="cannot be read"):
        load_preferences(tmp_path)


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "get_dataset_config_names", fail)
    with pytest.raises(IfllmError, match=r"as a Hub dataset ORG/ifllm cannot be read: no route.* check the revision"):
        load_preferences("ORG/ifllm")


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="no revision 'v1'"):
        load_preferences(write(tmp_path), revision="v1")


def test_limit_test_draws_by_seed_and_leaves_train_alone(tmp_path: Path) -> None:
    preferences = load_preferences(write(tmp_path, test=[pair(i, f"worker {i // 10}") for i in range(40)]))
    drawn = limit_test(preferences, 8, seed=0)
    assert len(drawn["test"]) == 8
    assert drawn["test"]["question_id"] != list(range(8))
    assert drawn["test"]["question_id"] == limit_test(preferences, 8, seed=0)["test"]["question_id"]
    assert drawn["train"].to_list() == preferences["train"].to_list()
    assert len(limit_test(preferences, 99, seed=0)["test"]) == 40
    assert limit_test(preferences, None, seed=0) is preferences
    with pytest.raises(IfllmError, match="test_size is 0"):
        limit_test(preferences, 0, seed=0)


def test_fingerprint_follows_the_rows_not_the_place(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    prints = [
        fingerprint(load_preferences(folder)["train"])
        for folder in (write(first), write(second), write(other, train=[*TRAIN[:-1], pair(3, "bob", flip_prob=0.26)]))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_hub_commit_is_read_from_the_files_of_the_dataset(tmp_path: Path) -> None:
    rows = load_preferences(write(tmp_path))["train"]
    assert hub_commit(rows) is None
    commit = "0123456789abcdef0123456789abcdef01234567"
    rows.info.download_checksums = {f"hf://datasets/ORG/ifllm@{commit}/data/preferences/train-0.parquet": {}}
    assert hub_commit(rows) == commit


def test_the_result_is_what_a_trainer_takes(tmp_path: Path) -> None:
    preferences = load_preferences(write(tmp_path))
    assert isinstance(preferences, DatasetDict)
    assert preferences["train"].features["prompt"] == MESSAGES


def test_importing_the_package_side_needs_no_heavy_library() -> None:
    code = (
        "import sys; from ifllm_hub.align import dpo, launch, policies, preferences;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'trl', 'datasets', 'peft')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
