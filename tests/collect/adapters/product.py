"""What the tests of chat products have in common: a collector for them, its store, and a cursor in their pages."""

import json
import subprocess
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from sqlalchemy import create_engine, text

from ifllm_hub.collect.server.app import create_app
from ifllm_hub.collect.settings import STORE_FILE, Settings
from tests.waiting import until, wait_for_server

# Middle of the first character of a word in an element's text, CSS px in the viewport; null if it is not there yet.
_PLACE = """(element, word) => {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const start = walker.currentNode.data.indexOf(word);
    if (start < 0) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, start);
    range.setEnd(walker.currentNode, start + 1);
    const { x, y, width, height } = range.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  }
  return null;
}"""


@contextmanager
def collecting(folder: Path, origin: str, port: int) -> Iterator[str]:
    """A collector for the pages of a product; its address as browsers reach it."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(Settings(folder, origins=(origin,))), port=port, log_level="error")
    )
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/ifllm"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(words: list[str], folder: Path, url: str, environment: dict[str, str]) -> Iterator[None]:
    """A product in a process of its own, in a folder, once it answers at a URL."""
    log = folder / "product.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=stream, stderr=stream)
    try:
        wait_for_server(process, url, log, 600)
        yield
    finally:
        process.kill()
        process.wait()


class Stored:
    """What is in a collector's store."""

    def __init__(self, folder: Path):
        self._engine = create_engine(f"sqlite:///{folder / STORE_FILE}")

    def close(self) -> None:
        self._engine.dispose()

    def answers(self) -> list[tuple[str, str, str]]:
        """Of each registered answer, the id of its question, the question and the text."""
        with self._engine.connect() as connection:
            rows = connection.execute(text("SELECT question_id, query, text FROM responses ORDER BY registered_at"))
            return [(row[0], row[1], row[2]) for row in rows]

    def ticks(self) -> list[list[Any]]:
        """With the key of the answer and its text, as `key_of` has it, in place of the index."""
        return self._rows("ticks", 1)

    def events(self) -> list[list[Any]]:
        return self._rows("events", 2)

    def _rows(self, kind: str, place: int) -> list[list[Any]]:
        with self._engine.connect() as connection:
            bodies = [json.loads(body) for body in connection.execute(text("SELECT body FROM batches")).scalars()]
        return [
            [*row[:place], tuple(body["responses"][row[place]]) if row[place] >= 0 else None, *row[place + 1 :]]
            for body in bodies
            for row in body[kind]
        ]


def rest_on(page: Any, answer: Any, word: str) -> None:
    """Keep the cursor on the first character of a word in an answer, once it is there, for a second; pages scroll."""

    def place() -> Any:
        return answer.evaluate(_PLACE, word)

    until(place, 60, lambda: page.wait_for_timeout(20))
    for _ in range(12):
        page.mouse.move(*place())
        page.wait_for_timeout(80)


def key_of(token: str) -> tuple[str, str, int]:
    """What is stored of an answer's token: the answer's id, and the hash and length of the text."""
    payload = json.loads(urlsafe_b64decode(token.split(".")[0] + "=="))
    return payload["response_id"], payload["text_sha256"], payload["text_length"]


def on_most(stored: Stored, token: str) -> set[int]:
    """The characters that the cursor was on for at least three ticks while an answer had a token."""
    counts = Counter(tick[4] for tick in stored.ticks() if tick[1] == key_of(token))
    return {char for char, count in counts.items() if char >= 0 and count >= 3}
