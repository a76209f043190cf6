"""Shared fixtures: a small simulated release, a larger one for statistics, their datasets, and the real release."""

import gc
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

# Before anything imports `datasets` or `huggingface_hub`, which read these once: tests never touch a home folder or
# the network.
_HOME = tempfile.TemporaryDirectory(prefix="ifllm-tests-")
os.environ |= {
    "OMP_NUM_THREADS": "1",  # more threads make torch several times slower on shared cores
    "HF_HOME": f"{_HOME.name}/hf",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "IFLLM_CACHE": f"{_HOME.name}/ifllm",
}

import hypothesis  # noqa: E402
import polars as pl  # noqa: E402
import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

from ifllm_hub.dataset.build import build_dataset  # noqa: E402
from ifllm_hub.dataset.card import pages  # noqa: E402
from ifllm_hub.dataset.card.figures import FOLDER, CardFigure, draw_figures  # noqa: E402
from ifllm_hub.dataset.privacy import report  # noqa: E402
from ifllm_hub.dataset.privacy.attack import Attack, reidentify  # noqa: E402
from ifllm_hub.files import write_atomically  # noqa: E402
from ifllm_hub.preferences.labels import write_preferences  # noqa: E402
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel  # noqa: E402
from ifllm_hub.reward.protocol import candidates  # noqa: E402
from ifllm_hub.reward.protocol.pairs import Pairs, labeled, load_pairs  # noqa: E402
from ifllm_hub.sources.ifllm.archive import Release, open_release  # noqa: E402
from ifllm_hub.sources.simulation.simulate import simulate_release  # noqa: E402

WORKERS, QUESTIONS, SEED = 8, 60, 3

hypothesis.configuration.set_hypothesis_home_dir(f"{_HOME.name}/hypothesis")
# The same examples in every run; a shared machine makes single examples slow.
hypothesis.settings.register_profile("all", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("all"), max_examples=10)


def pytest_configure(config: pytest.Config) -> None:
    """`make test` tries a tenth of the examples that `make test-all` tries."""
    hypothesis.settings.load_profile("quick" if config.getoption("markexpr") == "not slow" else "all")


def pytest_unconfigure() -> None:
    _HOME.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


def pytest_collection_finish() -> None:
    """Trainers collect garbage at each start and end: what the imports have made need not be looked through again."""
    gc.collect()
    gc.freeze()


def made_once(name: str, make: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """The folder that `make` writes, for all test processes of a session: the first who asks makes it."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    root = factory.getbasetemp().parent if is_worker else factory.getbasetemp()
    folder, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def _digest(frame: pl.DataFrame | None) -> str:
    return "" if frame is None else hashlib.sha256(frame.write_ipc(None).getvalue()).hexdigest()


@pytest.fixture(scope="session", autouse=True)
def computed_once() -> Iterator[None]:
    """Most of a build's time goes into the card's figures and the attacks: the same rows give them once a process.

    Who tests that they come out the same puts `draw_figures` and `reidentify` back.
    """
    drawn: dict[tuple[str, str], tuple[list[CardFigure], dict[str, bytes]]] = {}
    attacked: dict[tuple[str, ...], Attack | None] = {}

    def draw(
        folder: Path, questions: pl.DataFrame, features: pl.DataFrame | None, redraw: bool = True
    ) -> list[CardFigure]:
        if not redraw:
            return draw_figures(folder, questions, features, redraw)
        key = _digest(questions), _digest(features)
        if key not in drawn:
            figures = draw_figures(folder, questions, features)
            drawn[key] = figures, {figure.path: (folder / figure.path).read_bytes() for figure in figures}
        figures, files = drawn[key]
        (folder / FOLDER).mkdir(exist_ok=True)
        for path, content in files.items():
            write_atomically(folder / path, content)
        return figures

    def attack(rows: pl.DataFrame, columns: list[str]) -> Attack | None:
        key = _digest(rows), *columns
        if key not in attacked:
            attacked[key] = reidentify(rows, columns)
        return attacked[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "draw_figures", draw)
        patch.setattr(report, "reidentify", attack)
        yield


@contextmanager
def few_trees() -> Iterator[None]:
    """Forests that label have 12 trees: enough where it does not matter how well they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "ImplicitFeedbackRewardModel", partial(ImplicitFeedbackRewardModel, n_estimators=12))
        yield


def copy_and_label(dataset: Path, out: Path) -> None:
    """A copy of a dataset folder with the preferences of all label sources, quickly."""
    shutil.copytree(dataset, out)
    with few_trees():
        write_preferences(out)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated release: `dataset/` as the authors lay it out, and `ground_truth.parquet`."""
    return made_once("simulated", lambda out: simulate_release(out, WORKERS, QUESTIONS, SEED), tmp_path_factory)


@pytest.fixture(scope="session")
def release(simulated: Path) -> Release:
    return open_release(simulated)


@pytest.fixture(scope="session")
def built(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder built from `simulated`. Read only: copy it before changing it."""
    return made_once("built", lambda out: build_dataset(open_release(simulated), out), tmp_path_factory)


@pytest.fixture(scope="session")
def dataset(built: Path) -> Path:
    """The dataset folder of most tests; tests/align has another."""
    return built


@pytest.fixture(scope="session")
def labeled_dataset(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `built` with the preferences of all label sources. Read only."""
    return made_once("labeled", partial(copy_and_label, built), tmp_path_factory)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with some 140 rated pairs of 16 workers. Read only."""

    def make(folder: Path) -> None:
        release = simulate_release(folder / "release", workers=24, questions=300, seed=0)
        build_dataset(open_release(release), folder / "dataset")

    return made_once("study", make, tmp_path_factory) / "dataset"


@pytest.fixture(scope="session")
def all_pairs(study: Path) -> Pairs:
    return load_pairs(study)


@pytest.fixture(scope="session")
def pairs(all_pairs: Pairs) -> Pairs:
    """The pairs a model learns from."""
    return labeled(all_pairs)


@pytest.fixture(scope="session")
def labeled_study(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `study` with the preferences of all label sources. Read only."""
    return made_once("labeled-study", partial(copy_and_label, study), tmp_path_factory)


@pytest.fixture(scope="session")
def real_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The authors' release, from the folder or archive that `IFLLM_RELEASE` names."""
    source = os.environ.get("IFLLM_RELEASE")
    if not source:
        pytest.skip("needs the real release: set IFLLM_RELEASE to its folder or archive")
    cache = made_once("unpacked", lambda folder: open_release(source, folder), tmp_path_factory)
    return open_release(source, cache)


@pytest.fixture(scope="session")
def real_dataset(real_release: Release, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The dataset folder of the authors' release, and how much time of a CPU its build took, s. Read only."""

    def build(out: Path) -> None:
        out.mkdir()
        started = time.process_time()
        build_dataset(real_release, out / "ifllm")
        (out / "seconds").write_text(str(time.process_time() - started))

    made = made_once("real", build, tmp_path_factory)
    return made / "ifllm", float((made / "seconds").read_text())
