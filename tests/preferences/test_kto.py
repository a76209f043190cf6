"""Rated answers as KTO rows: the labels by hand, and what is left out."""

from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.align.runs.arguments import parse_arguments
from ifllm_hub.align.stages.kto import KTOArguments
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from ifllm_hub.preferences.kto import load_kto
from tests.align.made import write_config
from tests.align.scripts import run_kto


def answer(question: int, worker: str, rating: int | None, **flags: Any) -> dict[str, Any]:
    return {
        "question_id": question,
        "worker_id": worker,
        "query": f"question {question}",
        "response": f"answer {question}",
        "rating": rating,
        "ai_error": False,
        "excluded_worker": False,
    } | flags


TRAIN = [
    answer(1, "ann", 5),
    answer(2, "ann", 4),
    answer(3, "ann", 3),
    answer(4, "bob", 3),
    answer(5, "bob", 1),
    answer(6, "bob", 1),
    answer(7, "cat", 5),
    answer(8, "cat", 5),
    answer(9, "dan", 2),
    answer(10, "bob", None),
    answer(11, "bob", 5, ai_error=True),
    answer(12, "eve", 5, excluded_worker=True),
    answer(13, "eve", 2, excluded_worker=True),
]
TEST = [answer(20, "fay", 5), answer(21, "fay", 4), answer(22, "fay", 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path, "pointwise", TRAIN, TEST)
    return tmp_path


def labels(rows: Any) -> dict[int, bool]:
    return dict(zip(rows["question_id"], rows["label"], strict=True))


def test_above_the_workers_own_mean(folder: Path) -> None:
    """ann's mean is 4 and her 4 is left out; bob's is 5/3; cat and dan say nothing."""
    splits = load_kto(folder)
    assert labels(splits["train"]) == {1: True, 3: False, 4: True, 5: False, 6: False}
    assert labels(splits["test"]) == {20: True, 21: True, 22: False}


def test_at_least_4(folder: Path) -> None:
    splits = load_kto(folder, "at_least_4")
    high = {1, 2, 7, 8}
    assert labels(splits["train"]) == {question: question in high for question in range(1, 10)}
    assert labels(splits["test"]) == {20: True, 21: True, 22: False}


def test_excluded_workers_when_asked(folder: Path) -> None:
    assert labels(load_kto(folder, all_workers=True)["train"]) == labels(load_kto(folder)["train"]) | {
        12: True,
        13: False,
    }


def test_a_row_is_what_trl_takes(folder: Path) -> None:
    row = load_kto(folder)["train"][0]
    assert row == {
        "question_id": 1,
        "prompt": [{"role": "user", "content": "question 1"}],
        "completion": [{"role": "assistant", "content": "answer 1"}],
        "label": True,
    }


def test_one_kind_only_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, "pointwise", TRAIN, TEST[:2])
    with pytest.raises(IfllmError, match=r"test split .* has 2 desirable of 2 rated answers"):
        load_kto(tmp_path, "at_least_4")


def test_an_unknown_rule(folder: Path) -> None:
    with pytest.raises(IfllmError, match="no rule 'good'"):
        load_kto(folder, "good")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_length": 16}, "Every prompt of the train split has max_length = 16 tokens or more"),
        ({"max_length": 16, "precompute_ref_log_probs": True}, "Every prompt of the train split has max_length = 16"),
        ({"max_length": 4096}, "max_length is 4096, but the policy 'tiny' can read 2048 tokens"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_answers_that_do_not_fit(folder: Path, tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        kto(folder, tmp_path / "out", **flags)


def test_a_micro_batch_is_part_of_the_run(folder: Path, tmp_path: Path) -> None:
    """TRL estimates the KL divergence from the rows of one, so as many rows in a step are not enough."""
    results = kto(folder, tmp_path / "out", max_steps=1, desirable="at_least_4")
    assert (results["rows_seen"], results["rows_in_one_epoch"]) == (2, 9)
    with pytest.raises(IfllmError, match=r"rows per step 2 \(.*\) -> 2 \(per_device_train_batch_size 1 x"):
        kto(
            folder,
            tmp_path / "out",
            max_steps=1,
            desirable="at_least_4",
            per_device_train_batch_size=1,
            gradient_accumulation_steps=2,
        )


def kto(folder: Path, output_dir: Path, **flags: Any) -> dict[str, Any]:
    from trl.trainer.kto_config import KTOConfig

    recipe = shipped_folder("training") / "recipes" / "tiny" / "kto.yaml"
    flags = {"config": recipe, "dataset": folder, "output_dir": output_dir, "disable_tqdm": True} | flags
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return run_kto(*parse_arguments(KTOArguments, KTOConfig, words))
