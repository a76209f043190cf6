"""Each quirk of the reference implementation, by hand."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.quirks import ReferenceQuirks, cut, cut_answers, quirky_pairs, reference_policy
from ifllm_hub.errors import IfllmError
from tests.align.made import said, write_config

# Chosen is left, right, right; the model gives the chosen answer .9, .8 and .6.
ROWS: list[dict[str, Any]] = [
    {"question_id": 1, "chosen": said("assistant", "L1"), "rejected": said("assistant", "R1"), "flip_prob": 0.1},
    {"question_id": 2, "chosen": said("assistant", "R2"), "rejected": said("assistant", "L2"), "flip_prob": 0.2},
    {"question_id": 3, "chosen": said("assistant", "R3"), "rejected": said("assistant", "L3"), "flip_prob": 0.4},
]


@pytest.fixture
def pairs() -> DatasetDict:
    return DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[1:])})


@pytest.fixture
def folder(tmp_path: Path) -> str:
    rows = [{"question_id": n, "response_left": f"L{n}", "response_right": f"R{n}"} for n in (1, 2, 3)]
    write_config(tmp_path, "pairwise", rows[:2], rows[2:])
    return str(tmp_path)


def test_all_are_off_by_default(pairs: DatasetDict) -> None:
    quirks = ReferenceQuirks()
    assert quirks.on() == {}
    same = quirky_pairs(pairs, quirks, "forest", "./nowhere")
    assert same["train"].to_list() == ROWS
    assert reference_policy("sft", quirks, "forest") == "sft"


def test_the_ones_that_are_on() -> None:
    quirks = ReferenceQuirks(invert_labels=True, flip_prob_rule="left_side")
    assert quirks.on() == {"invert_labels": True, "flip_prob_rule": "left_side"}


def test_inverted_polarity_prefers_what_was_rejected(pairs: DatasetDict) -> None:
    inverted = quirky_pairs(pairs, ReferenceQuirks(invert_labels=True), "explicit", "./nowhere")
    assert [row["chosen"][0]["content"] for row in inverted["train"]] == ["R1", "L2", "L3"]
    assert [row["rejected"][0]["content"] for row in inverted["test"]] == ["R2", "R3"]
    assert inverted["train"]["flip_prob"] == [0.1, 0.2, 0.4]


@pytest.mark.parametrize("invert", [False, True])
def test_confidence_is_the_probability_of_class_1(pairs: DatasetDict, folder: str, invert: bool) -> None:
    """Class 1 is `right`. P(right) is .1, .8, .6, so 1 - confidence is .9, .2, .4, and the cap .45."""
    quirks = ReferenceQuirks(flip_prob_rule="left_side", invert_labels=invert)
    assert quirky_pairs(pairs, quirks, "forest", folder)["train"]["flip_prob"] == pytest.approx([0.45, 0.2, 0.4])
    assert quirky_pairs(pairs, quirks, "forest_gaze", folder)["test"]["flip_prob"] == pytest.approx([0.2, 0.4])
    for source in ("explicit", "modernbert"):
        assert quirky_pairs(pairs, quirks, source, folder)["train"]["flip_prob"] == [0.1, 0.2, 0.4]


def test_a_pair_that_pairwise_does_not_have(pairs: DatasetDict, tmp_path: Path) -> None:
    write_config(tmp_path, "pairwise", [{"question_id": 1, "response_left": "L1"}], [{"question_id": 9}])
    with pytest.raises(IfllmError, match="question 2 of the preferences is not in the config pairwise"):
        quirky_pairs(pairs, ReferenceQuirks(flip_prob_rule="left_side"), "forest", str(tmp_path))


def test_the_reference_model_of_rdpo_is_the_base() -> None:
    quirks = ReferenceQuirks(base_reference="gpt2-xl")
    assert reference_policy("runs/sft", quirks, "forest") == "gpt2-xl"
    assert reference_policy("runs/sft", quirks, "explicit") == "runs/sft", "plain DPO: the SFT checkpoint is loaded"


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((12, 500, 30), (12, 500, 30)),
        ((12, 501, 30), (12, 256, 30)),
        ((12, 30, 600), (12, 30, 256)),
        ((12, 600, 600), (12, 256, 256)),
        ((300, 250, 100), (256, 250, 100)),
        ((300, 256, 100), (256, 256, 100)),
        ((300, 257, 300), (256, 256, 256)),
    ],
)
def test_cut(lengths: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    tokens = [list(range(length)) for length in lengths]
    assert cut(*tokens) == tuple(list(range(length)) for length in expected)


def test_cut_answers_tokenizes_apart_and_loses_the_end() -> None:
    tokenizer = load_policy("tiny")[1]
    answers = ["Lentils.", "a lemon " * 300]
    rows = [
        {
            "prompt": said("user", "What now?"),
            "chosen": said("assistant", answers[0]),
            "rejected": said("assistant", answers[rejected]),
            "prompt_ids": [0],
            "chosen_ids": [0],
            "rejected_ids": [0],
        }
        for rejected in (0, 1)
    ]
    short, long = cut_answers(Dataset.from_list(rows), tokenizer)
    prompt = "<|im_start|>user\nWhat now?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(short["prompt_ids"]) == tokenizer.decode(long["prompt_ids"]) == prompt
    assert tokenizer.decode(short["chosen_ids"]) == "Lentils.<|im_end|>"
    assert len(long["rejected_ids"]) == 256
    assert tokenizer.eos_token_id not in long["rejected_ids"]
    assert answers[1].startswith(tokenizer.decode(long["rejected_ids"]))
