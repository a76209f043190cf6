"""Preference pairs: what is read, what is refused, and that chosen stays chosen."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
from datasets import DatasetDict, List, Value, load_dataset

from ifllm_hub.align.policies import load_policy
from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import BULLETS, columns
from ifllm_hub.dataset.writers import replace_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import external_rows, preference_rows
from ifllm_hub.preferences.load import EXPORTED, export_preferences, fingerprint, load_preferences, subsample
from ifllm_hub.preferences.splits import held_out_by, relabel
from ifllm_hub.reward.protocol.pairs import load_pairs
from tests.align.made import said, write_config, write_pairs

MESSAGES = List({"role": Value("string"), "content": Value("string")})


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


def write(folder: Path, train: list[dict[str, Any]] = TRAIN, test: list[dict[str, Any]] = TEST) -> Path:
    """A folder laid out as the Hub repo, with a config a label source."""
    write_pairs(folder, train, test)
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
    with pytest.raises(IfllmError, match=r"No label source 'gaze' in .*\. It has: explicit, forest\."):
        load_preferences(write(tmp_path), "gaze")


def test_a_folder_that_was_labeled_again(tmp_path: Path) -> None:
    """`load_dataset` would give the old rows, from its cache."""
    assert len(load_preferences(write(tmp_path))["train"]) == 2
    assert len(load_preferences(write(tmp_path, train=TRAIN[1:]))["train"]) == 1


def test_both_splits_are_needed(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"test split .* has no pair with label source 'forest'"):
        load_preferences(write(tmp_path, test=[pair(4, "eve", "explicit")]))


def test_half_a_config_is_said(tmp_path: Path) -> None:
    path = parquet_path(write(tmp_path), "preferences_forest", "test")
    path.unlink()
    with pytest.raises(IfllmError, match=rf"{path}: missing\. Write the config 'preferences_forest' first"):
        load_preferences(tmp_path)


@pytest.mark.parametrize("flip_prob", [None, 0.5, 0.7, -0.1])
def test_flip_probability_outside_the_half_open_interval(tmp_path: Path, flip_prob: float | None) -> None:
    folder = write(tmp_path, train=[pair(1, "ann"), pair(7, "ann", flip_prob=flip_prob)])
    with pytest.raises(IfllmError, match=r"1 of 2 pairs in the train split .* flip_prob .* question_id 7"):
        load_preferences(folder)


def test_a_flip_probability_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"preferences_forest/train-.*: flip_prob has values that are not finite"):
        load_preferences(write(tmp_path, train=[pair(1, "ann", flip_prob=float("nan"))]))


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
    folder = write(tmp_path, train=[pair(1, "ann", worker_id=None)], test=[pair(2, "ann", worker_id=None)])
    assert len(load_preferences(folder)["test"]) == 1


def test_missing_column(tmp_path: Path) -> None:
    path = parquet_path(write(tmp_path), "preferences_forest", "test")
    pl.read_parquet(path).drop("flip_prob").write_parquet(path)
    with pytest.raises(IfllmError, match=r"lacks the column flip_prob"):
        load_preferences(tmp_path)


@pytest.mark.parametrize("where", ["./nowhere", "/no/such/folder", Path("ORG/name"), "three/part/name"])
def test_a_folder_that_does_not_exist(where: str | Path) -> None:
    with pytest.raises(IfllmError, match=r"(no such dataset folder|cannot be listed from the Hub)"):
        load_preferences(where)


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"No label source 'forest' in .*\. It has: none at all"):
        load_preferences(tmp_path)


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "get_dataset_config_names", fail)
    with pytest.raises(IfllmError, match=r"ORG/ifllm: its configs cannot be listed from the Hub \(no route\)\. Check"):
        load_preferences("ORG/ifllm")


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="no revision 'v1'"):
        load_preferences(write(tmp_path), revision="v1")


# Three turns; the LLMs saw their own earlier answers.
LEFT = said("user", "Name a tree.", "An oak.", "Another one.", "A pine.", "And a third?")
RIGHT = said("user", "Name a tree.", "Ash?", "Another one.", "Beech, say.", "And a third?")


@pytest.mark.parametrize(
    ("history", "left_prompt", "right_prompt"),
    [
        pytest.param("none", said("user", "question 1"), said("user", "question 3"), id="none"),
        pytest.param(
            "shared_user_turns", *[said("user", "Name a tree.\n\nAnother one.\n\nAnd a third?")] * 2, id="shared"
        ),
        pytest.param("chosen_side", LEFT, RIGHT, id="chosen side"),
    ],
)
def test_the_history_of_a_third_turn(tmp_path: Path, history: Any, left_prompt: Any, right_prompt: Any) -> None:
    """Of question 1 the left answer is chosen, of 3 the right one; 4 and 5 are first turns."""
    folder = write(tmp_path)
    turns = [
        {"question_id": 1, "response_left": "better answer to 1", "response_right": "worse answer to 1"},
        {"question_id": 3, "response_left": "worse answer to 3", "response_right": "better answer to 3"},
    ]
    first = {"messages_left": said("user", "question 5"), "messages_right": said("user", "question 5")}
    write_config(
        folder,
        "pairwise",
        [turn | {"messages_left": LEFT, "messages_right": RIGHT} for turn in reversed(turns)],
        [{"question_id": 5, "response_left": "worse answer to 5"} | first],
    )
    preferences = load_preferences(folder, history=history)
    assert preferences["train"]["prompt"][:] == [left_prompt, right_prompt]
    assert preferences["test"]["prompt"][:] == [said("user", "question 5")]
    plain = load_preferences(folder)
    for split in ("train", "test"):
        assert preferences[split].remove_columns("prompt").to_list() == plain[split].remove_columns("prompt").to_list()


# What the meanings in the schema say of a text, in these words, and what that means for a row of the data.
QUERY_ALONE = "the query alone, as typed"
AS_TYPED = "what the LLM saw, except for the text that `bullet_points` says was appended"


def test_prompts_and_messages_are_what_their_meanings_say(labeled_dataset: Path) -> None:
    """Of questions in their second turn, some of which asked for bullet points."""
    said_of = {column.name: column for config in ("pairwise", "preferences_forest") for column in columns(config)}
    pairs = load_config(labeled_dataset, "pairwise").sort("conversation_id", "turn")
    rows = load_config(labeled_dataset, "preferences_forest").join(pairs, on="question_id", suffix="_pair")
    second = rows.filter(turn=2)
    assert set(second["bullet_points"]) == {True, False}
    first = {row["conversation_id"]: row for row in pairs.filter(turn=1).iter_rows(named=True)}
    assert QUERY_ALONE in said_of["prompt"].meaning
    assert AS_TYPED in said_of["messages_left"].meaning
    assert said_of["messages_right"].meaning == "the same for the right LLM"
    for row in second.iter_rows(named=True):
        assert row["prompt"] == [{"role": "user", "content": row["query"]}]
        assert (row["history"],) == said_of["history"].values == ("none",)
        assert (row["instruction"],) == (said_of["instruction"].values if row["bullet_points"] else (None,))
        before = first[row["conversation_id"]]
        for side in ("left", "right"):
            chat = said("user", before["query"], before[f"response_{side}"], row["query"])
            assert row[f"messages_{side}"] == chat
        assert BULLETS not in row["query"] + before["query"]


@pytest.mark.parametrize("history", ["none", "shared_user_turns", "chosen_side"])
def test_the_instruction_is_at_the_end_of_the_prompt_on_request(labeled_dataset: Path, history: Any) -> None:
    plain = load_preferences(labeled_dataset, history=history)
    sent = load_preferences(labeled_dataset, history=history, instruction=True)
    asked = set(load_config(labeled_dataset, "pairwise").filter("bullet_points")["question_id"])
    for split in ("train", "test"):
        pairs = list(zip(plain[split], sent[split], strict=True))
        assert {row["question_id"] in asked for row, _ in pairs} == {True, False}
        for row, other in pairs:
            if row["question_id"] in asked:
                row["prompt"][-1]["content"] += " respond using bullet points"
            assert row == other


def test_an_unknown_choice(tmp_path: Path) -> None:
    choice: Any = "fold"
    with pytest.raises(IfllmError, match=r"There is no history 'fold'\. Choose one of: none, "):
        load_preferences(write(tmp_path), history=choice)
    with pytest.raises(IfllmError, match=r"There is no split 'fold'\. Choose one of: worker, "):
        relabel(tmp_path, "forest", choice)
    with pytest.raises(IfllmError, match="No label source 'gaze'"):
        relabel(tmp_path, "gaze", "question")


def test_reading_pairs_imports_nothing_that_fits_a_model() -> None:
    code = "import sys; import ifllm_hub.preferences.load; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_question_without_its_history(tmp_path: Path) -> None:
    folder = write(tmp_path)
    write_config(folder, "pairwise", [{"question_id": 1, "messages_left": LEFT}], [{"question_id": 5}])
    with pytest.raises(IfllmError, match=r"2 questions .* not in the config pairwise"):
        load_preferences(folder, history="shared_user_turns")


def test_the_same_pairs_for_all_that_are_compared(tmp_path: Path) -> None:
    train = [pair(1, "ann"), pair(2, "ann"), pair(3, "bob"), pair(2, "ann", "explicit"), pair(3, "bob", "explicit")]
    folder = write(
        tmp_path, [*train, pair(3, "bob", "text")], [pair(5, "eve", name) for name in ("forest", "explicit")]
    )
    assert load_preferences(folder)["train"]["question_id"][:] == [1, 2, 3]
    for source in ("forest", "explicit"):
        for compared in (["explicit"], ["forest", "explicit"]):
            assert load_preferences(folder, source, same_pairs=compared)["train"]["question_id"][:] == [2, 3]
    with pytest.raises(IfllmError, match=r"The test split .* has no pair"):
        load_preferences(folder, same_pairs=True)
    with pytest.raises(IfllmError, match="No label source 'judge'"):
        load_preferences(folder, same_pairs=["judge"])
    write(folder, [*train, pair(3, "bob", "text")], [pair(5, "eve", name) for name in ("forest", "explicit", "text")])
    assert load_preferences(folder, same_pairs=True)["train"]["question_id"][:] == [3]


def test_a_constant_flip_probability(tmp_path: Path) -> None:
    preferences = load_preferences(write(tmp_path), constant_flip_prob=0.3)
    assert [preferences[split]["flip_prob"][:] for split in ("train", "test")] == [[0.3, 0.3], [0.3]]
    for wrong in (0.5, -0.1, float("nan")):
        with pytest.raises(IfllmError, match=r"2 of 2 pairs in the train split .* flip_prob"):
            load_preferences(tmp_path, constant_flip_prob=wrong)


@pytest.fixture(scope="module")
def study(labeled_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated study with all label sources, and one from elsewhere that prefers left throughout."""
    folder = shutil.copytree(labeled_dataset, tmp_path_factory.mktemp("study") / "dataset")
    pairs = load_pairs(folder)
    left = external_rows(pairs, pairs.rows.select("question_id", probability=pl.lit(0.9)), "always_left")
    replace_configs(folder, {"preferences_always_left": left})
    return folder


@pytest.mark.parametrize("group", ["conversation", "question"])
def test_other_splits_have_labels_made_for_them(study: Path, group: Any) -> None:
    pairs = held_out_by(load_pairs(study), group)
    fold_of = dict(pairs.rows.select("question_id", f"fold_{group}").iter_rows())
    left = dict(pairs.rows.select("question_id", "response_left").iter_rows())
    labels = preference_rows(pairs, sources=("longer",)).filter(pl.col("split") == "train")
    stored = load_preferences(study, "longer")["train"].to_list() + load_preferences(study, "longer")["test"].to_list()
    for source in ("longer", "always_left"):
        preferences = load_preferences(study, source, rows=relabel(study, source, group))
        folds = {split: {fold_of[question] for question in preferences[split]["question_id"]} for split in preferences}
        assert folds == {"train": {0, 1, 2, 3}, "test": {4}}
        if source == "longer":
            flips = dict(zip(preferences["train"]["question_id"], preferences["train"]["flip_prob"], strict=True))
            assert flips == dict(labels.select("question_id", "flip_prob").iter_rows())
            assert not set(flips.items()) <= {(row["question_id"], row["flip_prob"]) for row in stored}
        else:
            assert all(row["chosen"][0]["content"] == left[row["question_id"]] for row in preferences["train"])


def test_each_seed_has_its_own_permutation_of_the_labels(labeled_dataset: Path) -> None:
    side = load_config(labeled_dataset, "pairwise").select("question_id", "response_left")

    def lefts(rows: pl.DataFrame) -> pl.DataFrame:
        said = rows.with_columns(said=pl.col("chosen").list.first().struct.field("content"))
        left = said.join(side, on="question_id").select(
            "question_id", "split", left=pl.col("said") == pl.col("response_left")
        )
        return left.sort("question_id")

    stored = load_config(labeled_dataset, "preferences_shuffled")
    seeds = [lefts(relabel(labeled_dataset, "shuffled", "worker", shuffle_seed=seed)) for seed in (0, 1, 2)]
    assert seeds[0].equals(lefts(stored))
    explicit = lefts(load_config(labeled_dataset, "preferences_explicit"))
    for other in seeds:
        assert other.drop("left").equals(explicit.drop("left"))
        assert other.group_by("split").agg(pl.sum("left")).sort("split").equals(
            explicit.group_by("split").agg(pl.sum("left")).sort("split")
        )  # fmt: skip
    assert not any(seeds[at]["left"].equals(seeds[at - 1]["left"]) for at in range(3))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_exported_pairs_are_read_without_this_package(tmp_path: Path, suffix: str) -> None:
    folder = write(tmp_path / "dataset")
    assert export_preferences(folder, "forest", tmp_path / f"pairs{suffix}") == 3
    kind = {".jsonl": "json", ".parquet": "parquet"}[suffix]
    rows = load_dataset(
        kind, data_files=str(tmp_path / f"pairs{suffix}"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.column_names == EXPORTED
    expected = [(pair(1, "ann"), "train"), (pair(3, "bob"), "train"), (pair(5, "eve"), "test")]
    assert rows.to_list() == [{name: (row | {"split": split})[name] for name in EXPORTED} for row, split in expected]


def test_trls_own_trainer_takes_the_exported_file(tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    export_preferences(write(tmp_path / "dataset"), "forest", tmp_path / "pairs.jsonl")
    rows = load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "c"))
    for part in load_policy("tiny"):
        part.save_pretrained(tmp_path / "policy")
    config = DPOConfig(
        str(tmp_path / "out"), max_steps=1, use_cpu=True, bf16=False, activation_checkpointing=False, save_strategy="no"
    )
    trainer = DPOTrainer(str(tmp_path / "policy"), args=config, train_dataset=rows)
    assert trainer.train().global_step == 1


def test_a_file_that_cannot_be_exported(tmp_path: Path) -> None:
    folder = write(tmp_path / "dataset")
    with pytest.raises(IfllmError, match=r"written as \.jsonl or \.parquet"):
        export_preferences(folder, "forest", tmp_path / "pairs.csv")
    with pytest.raises(IfllmError, match="cannot be written"):
        export_preferences(folder, "forest", tmp_path / "nowhere" / "pairs.jsonl")
    with pytest.raises(IfllmError, match="No label source 'gaze'"):
        export_preferences(folder, "gaze", tmp_path / "pairs.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


def test_limited_draws_by_seed_and_leaves_the_other_split_alone(tmp_path: Path) -> None:
    preferences = load_preferences(write(tmp_path, test=[pair(100 + i, f"worker {i // 10}") for i in range(40)]))
    drawn = subsample(preferences, 0, test_size=8)
    assert len(drawn["test"]) == 8
    assert drawn["test"]["question_id"] != list(range(100, 108))
    assert drawn["test"]["question_id"] == subsample(preferences, 0, test_size=8)["test"]["question_id"]
    assert drawn["train"].to_list() == preferences["train"].to_list()
    assert len(subsample(preferences, 0, test_size=99)["test"]) == 40
    assert subsample(preferences, 0) == preferences
    with pytest.raises(IfllmError, match="test_size is 0"):
        subsample(preferences, 0, test_size=0)


def test_fingerprint_follows_the_rows_not_the_place(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    prints = [
        fingerprint(load_preferences(folder)["train"])
        for folder in (write(first), write(second), write(other, train=[*TRAIN[:-1], pair(3, "bob", flip_prob=0.26)]))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_the_result_is_what_a_trainer_takes(tmp_path: Path) -> None:
    preferences = load_preferences(write(tmp_path))
    assert isinstance(preferences, DatasetDict)
    assert preferences["train"].features["prompt"] == MESSAGES


def test_importing_the_package_side_needs_no_heavy_library() -> None:
    code = (
        "import sys; from ifllm_hub.align import policies; from ifllm_hub.align.runs import launch;"
        "from ifllm_hub.align.stages import dpo; from ifllm_hub.preferences import load;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'trl', 'datasets', 'peft')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reference_split_draws_rows_and_takes_every_rated_pair(labeled_dataset: Path) -> None:
    pairwise = load_config(labeled_dataset, "pairwise").filter(~pl.col("excluded_worker")).sort("question_id")
    rated = set(pairwise.filter(pl.col("preference").is_not_null())["question_id"])
    drawn = load_preferences(labeled_dataset, rows=relabel(labeled_dataset, "explicit", "reference"))
    train, test = (set(drawn[name]["question_id"]) for name in ("train", "test"))
    assert train | test == rated
    assert not train & test
    order = np.random.RandomState(42).permutation(pairwise.height)  # as scikit-learn draws
    expected = {pairwise["question_id"][int(at)] for at in order[: math.ceil(0.2 * pairwise.height)]}
    assert test == expected & rated
    forest = load_preferences(labeled_dataset, rows=relabel(labeled_dataset, "forest", "reference"))
    assert set(forest["test"]["question_id"]) <= expected
    assert not set(forest["train"]["question_id"]) & expected
