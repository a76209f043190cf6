"""Many readers at once: `python -m tests.collect.store.load FOLDER PORT[,PORT] SESSIONS SECONDS API_KEY`.

Each session is a person who reads one answer at 12.5 Hz and sends a batch every second, over connections of its own,
like the tracker: in order, and again with the same body until a server has accepted it. Of several servers each is sent
the next request in turn, as behind a balancer, so that what failed at one is sent again to another. Once all answers
are registered, `FOLDER/registered` is there. Writes what was accepted, with the SHA-256 of each body, and how long each
accepted attempt took, to `FOLDER/load.json`.
"""

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.collect.client import ORIGIN, batch, encoded, registration

INTERVAL = 1.0
# A session that cannot get through for so long ends, so that no client outlives its test.
PATIENCE = 120


class Connection:
    """One HTTP/1.1 connection that is kept alive."""

    def __init__(self, port: int):
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, headers: str = "") -> tuple[int, Any]:
        """Status and JSON.

        Raises:
            OSError: the server is not there, or went away.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(
                f"POST /ifllm{path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\n{headers}"
                f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
            content = await reader.readexactly(int(fields.get("content-length", "0")))
            return int(head.split()[1]), json.loads(content)
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            self._streams = None
            raise ConnectionError from error


class Balanced:
    """A connection to each of several servers, which are asked in turn."""

    def __init__(self, ports: list[int], first: int):
        self._connections = [Connection(port) for port in ports]
        self._next = first

    async def post(self, path: str, body: bytes, headers: str = "") -> tuple[int, Any]:
        """See `Connection.post`."""
        connection = self._connections[self._next % len(self._connections)]
        self._next += 1
        return await connection.post(path, body, headers)


async def register(number: int, connection: Balanced, key: str) -> str:
    asked = registration(f"person-{number}", "q", "left", f"An answer for reader {number}. " * 20)
    status, tokens = await connection.post("/v1/responses", encoded(asked), f"X-Ifllm-Key: {key}\r\n")
    assert status == 200, tokens
    return str(tokens["token"])


async def session(number: int, connection: Balanced, token: str, seconds: float, results: dict[str, Any]) -> None:
    ends = time.monotonic() + seconds
    await asyncio.sleep(INTERVAL * (number % 100) / 100)
    sequence = 0
    while time.monotonic() < ends:
        due = time.monotonic() + INTERVAL
        start = 1_000 + round(1_000 * sequence * INTERVAL)
        ticks = [[start + 80 * i, 0, 100, 200, sequence, 0] for i in range(round(12.5 * INTERVAL))]
        body = encoded(batch([token], number, sequence, ticks=ticks))
        await deliver(connection, body, [number, sequence], results)
        sequence += 1
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def deliver(connection: Balanced, body: bytes, name: list[int], results: dict[str, Any]) -> None:
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        started = time.perf_counter()
        try:
            status, said = await connection.post("/v1/batches", body)
        except OSError:
            await asyncio.sleep(0.3)
            continue
        if status == 202:
            results["milliseconds"].append(1_000 * (time.perf_counter() - started))
            results["accepted"].append([*name, hashlib.sha256(body).hexdigest()])
            results["duplicates"] += said["duplicate"]
            return
        results["refused"].append([*name, status])
        await asyncio.sleep(0.3)
    raise TimeoutError(f"batch {name} was never accepted")


async def main(folder: Path, ports: list[int], sessions: int, seconds: float, key: str) -> None:
    results: dict[str, Any] = {"accepted": [], "milliseconds": [], "duplicates": 0, "refused": []}
    connections = [Balanced(ports, number) for number in range(sessions)]
    tokens = [await register(number, connection, key) for number, connection in enumerate(connections)]
    (folder / "registered").touch()
    reading = (
        session(n, c, token, seconds, results) for n, (c, token) in enumerate(zip(connections, tokens, strict=True))
    )
    await asyncio.gather(*reading)
    took = sorted(results["milliseconds"])
    sys.stdout.write(
        f"{len(took)} batches accepted, {sessions * seconds:.0f} planned, {results['duplicates']} sent twice, "
        f"{len(results['refused'])} refused; accepted after p50 {took[len(took) // 2]:.1f} ms, "
        f"p99 {took[len(took) * 99 // 100]:.1f} ms\n"
    )
    (folder / "load.json").write_text(json.dumps(results))


if __name__ == "__main__":
    folder, ports, sessions, seconds, key = sys.argv[1:]
    asyncio.run(main(Path(folder), [int(port) for port in ports.split(",")], int(sessions), float(seconds), key))
