"""A chat site with a collector, run as `ifllm collect serve`: what its server registers and what its pages report."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from eval.studies.loop.readers import Person, Reading
from ifllm_hub.collect import CONSENT
from ifllm_hub.collect.experiment.assign import Assignment
from ifllm_hub.collect.settings import API_KEY, PSEUDONYM_KEY, SECRETS_FILE, SIGNING_KEYS
from ifllm_hub.files import make_folder, write_atomically
from ifllm_hub.terms import SIDES

_PATIENCE_SECONDS = 120


def ifllm(*words: str | Path) -> list[str]:
    """A command of the package, in this interpreter."""
    return [sys.executable, "-c", "from ifllm_hub.cli import main; main()", *map(str, words)]


class Site:
    """The site's server, which has the collector's key, and its readers' pages, which have tokens."""

    def __init__(self, endpoint: str, key: str):
        self._server = httpx.Client(base_url=endpoint, headers={"X-Ifllm-Key": key}, timeout=60)
        self._page = httpx.Client(base_url=endpoint, timeout=60)

    def close(self) -> None:
        self._server.close()
        self._page.close()

    def register(
        self, person: Person, question: str, query: str, answers: Sequence[tuple[str, str]], arm: Assignment | None
    ) -> list[str]:
        """Register a question's answers; the tokens for the page.

        Args:
            answers: model and text of each.
        """
        of_arm = {} if arm is None else arm._asdict()
        ids = {
            "person": person.id,
            "question_id": question,
            "conversation": question,
            "query": query,
            "consent": CONSENT,
        }
        return [
            _sent(self._server, "responses", ids | of_arm | {"side": side, "model": model, "text": text})["token"]
            for side, (model, text) in zip(SIDES, answers, strict=False)
        ]

    def report(self, person: Person, tokens: list[str], reading: Reading) -> None:
        """Send what a page recorded, as if the reading had just ended."""
        end = max(row[0] for row in [*reading.ticks, *reading.events])
        about = {
            "v": 1,
            "session": uuid.uuid4().hex,
            "consent": CONSENT,
            "origin": time.time_ns() // 1_000_000 - end,
            "viewport": [person.reader.width, person.reader.height, 1.0],
            "responses": tokens,
        }
        for sequence, batch in enumerate(reading.batches):
            _sent(self._page, "batches", {**about, "sequence": sequence, **batch})

    def rate(self, token: str, **said: Any) -> None:
        _sent(self._page, "ratings", {"token": token, **said})


@contextmanager
def collecting(folder: Path, port: int) -> Iterator[Site]:
    """A site while its collector runs, with keys that are no secret: another key would give other pseudonyms."""
    make_folder(folder)
    keys = {name: f"of a simulated collector: {name}" for name in (SIGNING_KEYS, PSEUDONYM_KEY, API_KEY)}
    write_atomically(folder / SECRETS_FILE, json.dumps(keys))
    endpoint = f"http://127.0.0.1:{port}/ifllm/v1/"
    server = subprocess.Popen(
        ifllm("collect", "serve", "--folder", folder, "--port", str(port)), stdout=subprocess.DEVNULL
    )
    try:
        _wait(f"{endpoint}health", server)
        with closing(Site(endpoint, keys[API_KEY])) as site:
            yield site
    finally:
        server.terminate()
        server.wait()


def _sent(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    reply = client.post(path, json=body)
    while reply.status_code == 429:
        time.sleep(float(reply.headers["Retry-After"]))
        reply = client.post(path, json=body)
    reply.raise_for_status()
    return reply.json()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.HTTPError:
            if server.poll() is not None or time.monotonic() > patience:
                raise
            time.sleep(0.2)
