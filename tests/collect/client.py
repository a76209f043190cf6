"""A simulated integrator and browser: what they send, in plain Python."""

import json
import time
from typing import Any

ORIGIN = "https://chat.example.org"
TIME_ORIGIN = int(time.time() * 1_000) - 60_000


def registration(person: str, question: str, side: str, text: str, **changes: Any) -> dict[str, Any]:
    return {
        "person": person,
        "question_id": question,
        "side": side,
        "text": text,
        "query": f"What about {question}?",
        "conversation": f"conversation-of-{person}",
        "model": f"llm-{side}",
        **changes,
    }


def batch(tokens: list[str], session: int = 0, sequence: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "session": f"{session:032x}",
        "sequence": sequence,
        "consent": "2026-11-29",
        "origin": TIME_ORIGIN,
        "viewport": [1280, 720, 1.25],
        "responses": tokens,
        "ticks": [],
        "events": [],
        **changes,
    }


def reading(seconds: float, r: int, start: int = 1_000, length: int = 400) -> list[list[int]]:
    """Ticks every 80 ms that go through the text once, evenly."""
    count = int(seconds * 12.5)
    return [[start + 80 * i, r, 100 + i % 400, 200, i * length // count, 0] for i in range(count)]


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()
