"""The npm package as a user has it: packed, and installed in an app that Vite builds."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.docs.place import BLOCKS, skip_without_registry

ROOT = Path(__file__).parents[3]
STATIC = Path("ifllm_hub/collect/static")
NAME = "ifllm-tracker"
_FROM_NPM = (
    "vite@7 @vitejs/plugin-react@5 react@19 react-dom@19 @assistant-ui/react@0.15 "
    "typescript@5 @types/react@19 @types/react-dom@19"
)
_QUIETLY = {"NPM_CONFIG_PREFER_OFFLINE": "true", "NPM_CONFIG_AUDIT": "false", "NPM_CONFIG_FUND": "false"}


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command says, which must succeed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]} (Debian: apt install npm)")
    environment = {**os.environ, **_QUIETLY, **environment}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    skip_without_registry(ran.stderr)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the parts of this repository that the package is made from."""
    checkout = tmp_path_factory.mktemp("place") / "ifllm_hub"
    for part in (STATIC, Path("npm")):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("dist", "LICENSE"))
    shutil.copy(ROOT / "LICENSE", checkout)
    return checkout


@pytest.fixture(scope="session")
def package(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what `npm pack` puts into the tarball."""
    place = tmp_path_factory.mktemp("packed")
    run("npm", "pack", checkout / "npm", folder=place)
    (tarball,) = place.iterdir()
    with tarfile.open(tarball) as archive:
        archive.extractall(place, filter="data")
    return place / "package"


@pytest.fixture(scope="session")
def app(checkout: Path) -> Path:
    """An app with the files of docs/collector.md, and the package as it says there."""
    app = checkout.parent / "app"
    shutil.copytree(Path(__file__).parent / "app", app)
    for name in ("answers.jsx", "feedback.js"):
        (app / name).write_text(BLOCKS[name].code)
    (app / "package.json").write_text('{"private": true, "type": "module"}')
    run("npm", "install", *_FROM_NPM.split(), folder=app)
    run("bash", "-ec", BLOCKS["package"].code, folder=app)
    return app


@pytest.fixture(scope="session", params=["production", "development"])
def built(app: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """The files of the built app by their paths on a server; in development, StrictMode runs each effect twice."""
    mode, folder = request.param, app / "built" / request.param
    run("npx", "vite", "build", "--mode", mode, "--outDir", folder, folder=app, NODE_ENV=mode)
    return {f"/{file.relative_to(folder)}": file.read_text() for file in folder.rglob("*.*")}
