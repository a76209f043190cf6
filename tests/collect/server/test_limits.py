"""How much, how often and how slowly: by real sockets where time matters, and an app that is none of Gradio's."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from ifllm_hub.collect.server.app import serve
from ifllm_hub.collect.server.gate import Gate
from ifllm_hub.collect.server.limits import network_of
from ifllm_hub.collect.settings import Rate, Secrets, Settings
from ifllm_hub.collect.tokens import Signer
from tests.collect.conftest import Site
from tests.waiting import until

Exchange = Callable[..., bytes]


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    """A function that sends pieces to a collector, as it is run, and reads until that closes the connection."""
    servers: list[uvicorn.Server] = []
    connections: list[socket.socket] = []

    def run(app: Any, **chosen: Any) -> None:
        servers.append(uvicorn.Server(uvicorn.Config(app, **chosen)))
        servers[0].run()

    monkeypatch.setattr("uvicorn.run", run)
    monkeypatch.setattr("ifllm_hub.collect.server.http_timeout.HEAD_SECONDS", 0.2)
    thread = threading.Thread(
        target=serve, args=(Settings(tmp_path / "collected", body_seconds=0.2),), kwargs={"port": 0}
    )
    thread.start()
    until(lambda: servers and servers[0].started)

    def exchange(*pieces: bytes, trickle: bytes = b"") -> bytes:
        client = socket.create_connection(servers[0].servers[0].sockets[0].getsockname(), timeout=0.05)
        connections.append(client)
        for piece in pieces:
            client.sendall(piece)
        read, patience = b"", 600
        while patience := patience - 1:
            try:
                if not (got := client.recv(65_536)):
                    return read
                read += got
            except TimeoutError:
                if trickle:
                    client.sendall(trickle)
            except ConnectionError:
                return read
        raise AssertionError("the connection is still open")

    yield exchange
    for client in connections:
        client.close()
    servers[0].should_exit = True
    thread.join()


def test_who_is_slow_is_not_waited_for(exchange: Exchange) -> None:
    assert exchange() == b""  # says nothing
    assert exchange(b"GET /ifllm/v1/health HT") == b""
    assert exchange(b"GET /ifllm/v1/health HTTP/1.1\r\nA: ", trickle=b"a") == b""
    head = b"POST /ifllm/v1/%s HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n"
    for trickle in (b"", b" "):
        answer = exchange(head % b"batches", b"{", trickle=trickle)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"too_slow"' in answer
        assert b"\r\nconnection: close\r\n" in answer.lower()
    # Nor is a body that nobody reads.
    assert exchange(head % b"nothing", b"{", trickle=b" ").startswith(b"HTTP/1.1 405 ")
    # A request that is whole is answered, and another one on the same connection.
    whole = b"GET /ifllm/v1/health HTTP/1.1\r\nHost: a\r\n\r\n"
    assert exchange(whole, whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).count(b'"status":"ok"') == 2


def test_of_two_servers_on_one_store_each_limits_by_itself(tmp_path: Path, make_site: Callable[..., Site]) -> None:
    """Requests a second are counted in memory, so both together let in twice as many, and no more; see docs."""
    database = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    sites = [make_site(database=database, person_rate=Rate(1e-9, 6)) for _ in range(2)]
    shared = Secrets.load(sites[0].settings.folder)
    for site in sites:  # as of one folder, or one environment
        site.collector.signer = Signer(shared.signing)
    token = sites[0].register("ada", "q")["token"]
    for site in sites:
        assert [site.send([token], n).status_code for n in range(10)] == [202] * 6 + [429] * 4
    # What the second server let in was there already: it is stored once.
    assert sites[1].store.counts()["batches"] == 6


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_what_a_limit_by_address_counts(host: str, counted: str) -> None:
    assert network_of(Request({"type": "http", "client": (host, 1)})) == counted


def test_the_gate(tmp_path: Path) -> None:
    """In front of an app that says what it is sent."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = await Request(scope, receive).body()
        await PlainTextResponse(f"{scope['path']} {len(body)}")(scope, receive, send)

    gate = Gate(echo, Settings(tmp_path, page_rate=Rate(1e-9, 4)))
    client = TestClient(gate, client=("2001:db8::1", 1))
    json = {"Content-Type": "application/json"}
    assert client.post("/gradio_api/queue/join", content=b"x" * 300_000, headers=json).text.endswith(" 300000")
    assert client.post("/gradio_api/queue/join", content=b"x" * 5_000_000, headers=json).status_code == 413
    for path in ("/gradio_api/upload", "/gradio_api/queue/join/../../upload", "/gradio_api/run/x", "/login", "/upload"):
        for method in ("POST", "PUT", "DELETE"):
            assert client.request(method, path, content=b"x", headers=json).status_code == 403
    assert client.get("/gradio_api/deep_link/").status_code == 403
    # What the collector is asked is limited by itself; what is no event is not limited.
    assert client.post("/ifllm/v1/batches", content=b"x").status_code == 200
    assert [client.get("/assets/index.js").status_code for _ in range(9)] == [200] * 9
    # Of the four, the first two went above.
    queue = [client.get("/gradio_api/queue/data").status_code for _ in range(3)]
    assert queue == [200, 200, 429]
    assert TestClient(gate, client=("2001:db8::2", 1)).get("/gradio_api/queue/data").status_code == 429
    assert TestClient(gate, client=("2001:db8:0:1::2", 1)).get("/gradio_api/queue/data").status_code == 200
