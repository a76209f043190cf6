"""Shared fixtures: a small simulated release, the dataset built from it, and the real release where there is one."""

import os
import tempfile
import time
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
import pytest  # noqa: E402

from ifllm_hub.dataset.builder import build_dataset  # noqa: E402
from ifllm_hub.release.simulate import simulate_release  # noqa: E402
from ifllm_hub.release.source import Release, open_release  # noqa: E402

WORKERS, QUESTIONS, SEED = 8, 60, 3

hypothesis.configuration.set_hypothesis_home_dir(f"{_HOME.name}/hypothesis")
# The same examples in every run; a shared machine makes single examples slow.
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("tests")


def pytest_unconfigure() -> None:
    _HOME.cleanup()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated release: `dataset/` as the authors lay it out, and `ground_truth.parquet`."""
    return simulate_release(tmp_path_factory.mktemp("simulated") / "release", WORKERS, QUESTIONS, SEED)


@pytest.fixture(scope="session")
def release(simulated: Path) -> Release:
    return open_release(simulated)


@pytest.fixture(scope="session")
def dataset(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder built from `simulated`. Read only: copy it before changing it."""
    out = tmp_path_factory.mktemp("dataset") / "ifllm"
    build_dataset(release, out)
    return out


@pytest.fixture(scope="session")
def real_release() -> Release:
    """The authors' release, from the folder or archive that `IFLLM_RELEASE` names."""
    source = os.environ.get("IFLLM_RELEASE")
    if not source:
        pytest.skip("needs the real release: set IFLLM_RELEASE to its folder or archive")
    return open_release(source)


@pytest.fixture(scope="session")
def real_dataset(real_release: Release, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The dataset folder of the authors' release, and how long its build took, s. Read only."""
    out = tmp_path_factory.mktemp("real") / "ifllm"
    started = time.perf_counter()
    build_dataset(real_release, out)
    return out, time.perf_counter() - started
