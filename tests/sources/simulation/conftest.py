"""Two simulated releases, read only: a small one, and one of the default size."""

from pathlib import Path

import pytest

from ifllm_hub.sources.simulation.simulate import simulate_release
from tests.conftest import made_once
from tests.sources.simulation.simulated import Simulation


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return Simulation(made_once("simulated-small", lambda out: simulate_release(out, 8, 80, seed=3), tmp_path_factory))


@pytest.fixture(scope="session")
def default(study: Path) -> Simulation:
    return Simulation(study.parent / "release")
