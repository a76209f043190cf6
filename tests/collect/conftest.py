"""A collector behind a test client, and what an integrator and a browser do with it."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.server.app import create_app
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import SECRETS_FILE, Secrets, Settings
from ifllm_hub.collect.store.store import Store
from tests.browser import browser
from tests.collect.client import ORIGIN, batch, encoded, registration
from tests.collect.cluster import postgres_programs, postgres_server
from tests.collect.engines import open_page
from tests.collect.wire import WireServer

__all__ = ["browser", "open_page"]


@pytest.fixture
def wire() -> Iterator[WireServer]:
    server = WireServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL database that may be emptied."""
    if named := os.environ.get("IFLLM_POSTGRES"):
        yield named
    elif programs := postgres_programs():
        with postgres_server(programs) as url:
            yield url
    else:
        pytest.skip("needs PostgreSQL's programs, or IFLLM_POSTGRES, the URL of a database that may be emptied")


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """The same, empty."""
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'collected.sqlite'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@dataclass
class Site:
    """A chat site with the collector: `client` sends as its pages do."""

    client: TestClient
    collector: Collector
    settings: Settings
    store: Store
    pseudonyms: Pseudonyms
    key: str

    def register(self, person: str, question: str, side: str = "left", text: str = "word " * 80, **more: Any) -> Any:
        body = registration(person, question, side, text, **more)
        response = self.client.post("/ifllm/v1/responses", json=body, headers={"X-Ifllm-Key": self.key})
        assert response.status_code == 200, response.text
        return response.json()

    def pair(self, person: str, question: str, left: str = "left " * 80, right: str = "right " * 80) -> list[str]:
        """The tokens of a question's two answers."""
        return [
            self.register(person, question, side, text)["token"] for side, text in (("left", left), ("right", right))
        ]

    def send(self, tokens: list[str], session: int = 0, sequence: int = 0, **changes: Any) -> Any:
        body = encoded(batch(tokens, session, sequence, **changes))
        return self.client.post("/ifllm/v1/batches", content=body, headers={"Content-Type": "text/plain"})

    def post(self, path: str, body: Any) -> Any:
        return self.client.post(f"/ifllm/v1/{path}", json=body)

    def forget(self, token: str) -> Any:
        return self.client.delete("/ifllm/v1/people/me", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Sites with other settings than the default ones; they are closed after the test."""
    opened: list[tuple[TestClient, Store]] = []

    def make(**changes: Any) -> Site:
        folder = tmp_path / f"collector-{len(opened)}"
        settings = Settings(folder, **{"origins": (ORIGIN,), **changes})
        collector = Collector(settings)
        client = TestClient(create_app(settings, collector), headers={"Origin": ORIGIN}, raise_server_exceptions=False)
        client.__enter__()
        store = Store(settings.url)
        opened.append((client, store))
        key = json.loads((folder / SECRETS_FILE).read_text())["IFLLM_COLLECT_API_KEY"]
        return Site(client, collector, settings, store, Pseudonyms(Secrets.load(folder).pseudonym), key)

    yield make
    for client, store in opened:
        client.__exit__(None, None, None)
        store.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()
