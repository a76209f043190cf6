"""Six preference pairs, and the same in a folder laid out as the Hub repo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import BULLETS
from tests.align.made import write_pairs
from tests.align.scripts import run_script

FLIPS = [0.1, 0.2, 0.3, 0.0, 0.4, 0.2]
ANSWERS = [
    ("Boil the lentils with two carrots.", "Lentils."),
    ("Because the wheel steers back under the weight.", "It does not fall over, it seems to me, but who knows."),
    ("Take the train at nine; it is quiet then.", "There are trains."),
    ("A lemon, some parsley and a little sugar.", "I would rather not say what I put into it."),
    ("Write to your landlord and keep a copy.", "Please wait until Monday, then wait again."),
    ("Three apples are enough for this cake.", "Three."),
]


def _pairs(worker: str) -> list[dict[str, Any]]:
    return [
        {
            "question_id": number + 100 * (worker == "train"),
            "worker_id": worker,
            "label_source": "forest",
            "prompt": [{"role": "user", "content": f"What should I do about number {number}?"}],
            "history": "none",
            "instruction": BULLETS if number == 2 else None,
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            "flip_prob": flip,
        }
        for number, ((chosen, rejected), flip) in enumerate(zip(ANSWERS, FLIPS, strict=True))
    ]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """With two, OpenMP's busy waiting makes torch several times slower on a shared machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def six_pairs() -> list[dict[str, Any]]:
    """Rows of the config `preferences_forest`; their mean flip probability is 0.2."""
    return _pairs("test")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the Hub repo: six pairs of one worker to train on, the same six of another to test."""
    folder = tmp_path_factory.mktemp("dataset")
    write_pairs(folder, _pairs("train"), _pairs("test"))
    return folder


@pytest.fixture(scope="module")
def two_sources(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six pairs of `dataset`, labeled by the forest and, the other way round from the third on, by the worker."""
    folder = tmp_path_factory.mktemp("two") / "ifllm"
    splits = []
    for _, part in load_config(dataset, "preferences_forest").group_by("split", maintain_order=True):
        rows = [row | {"rating_chosen": 4, "rating_rejected": 3} for row in part.drop("split").to_dicts()]
        explicit = [row | {"label_source": "explicit", "flip_prob": 0.0} for row in rows]
        for row in explicit[2:]:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        splits.append(rows + explicit)
    write_pairs(folder, *splits)
    return folder


@pytest.fixture
def run(two_sources: Path, tmp_path: Path) -> Callable[..., int]:
    """Run a script with its tiny recipe in this process; gives its status."""
    return lambda script, **flags: run_script(script, two_sources, tmp_path / "out", **flags)
