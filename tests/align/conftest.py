"""Six preference pairs, and the same in a folder laid out as the Hub repo."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ifllm_hub.dataset.schema import BULLETS
from tests.align.made import write_pairs

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
