"""The loopback Hub: a real HTTP server on 127.0.0.1 that the unmodified Hugging Face clients talk to.

The clients' own code was the specification. It has no limits on size or rate, and no CDN on another host.
"""

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.faults import Faults, What
from tests.hub.repos import Account, File, HubError, Repo

WRITE_TOKEN, READ_TOKEN, OTHER_TOKEN, NO_ROLE_TOKEN = "hf_write", "hf_read", "hf_other", "hf_none"


@dataclass
class Request:
    """A request on its way through a route; `repo` is set where the path names one that the account may read."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    account: Account | None
    url: str  # of the server
    repo: Repo | None = None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())


@dataclass
class Response:
    body: bytes | dict | list = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Route = tuple[str, re.Pattern[str], Callable[..., Response]]


class Hub:
    """State of the server, and the server itself: `with Hub(folder) as hub: hub.url`.

    Tokens: `hf_write` and `hf_read` are of the account `ada`, a member of the organization `lab`; `hf_other` may write,
    but as `eve`, who is no member; `hf_none` is of `ada` and may do nothing.

    Args:
        folder: where the Xet storage is, if clients use it.
        page: entries a page of a listing.
    """

    def __init__(self, folder: Path, page: int = 1000):
        from tests.hub.api import ROUTES as API
        from tests.hub.content import ROUTES as CONTENT
        from tests.hub.xet import XetStorage

        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.xet = XetStorage(folder / "xet")
        self.faults = Faults()
        self.page = page
        self.accounts = {
            WRITE_TOKEN: Account("ada", "write", ("lab",)),
            READ_TOKEN: Account("ada", "read", ("lab",)),
            OTHER_TOKEN: Account("eve", "write"),
            NO_ROLE_TOKEN: Account("ada", "none", ("lab",)),
        }
        self._routes: list[Route] = [*API, *CONTENT]
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def dataset(self, repo_id: str) -> Repo:
        return self.repos["dataset", repo_id]

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a dataset holds, without the Hub's own `.gitattributes`."""
        files: dict[str, File] = dict(self.dataset(repo_id).resolve(revision).files)
        files.pop(".gitattributes", None)
        return {path: file.content for path, file in files.items()}

    def answer(self, request: Request) -> Response:
        """The response to a request; all state changes happen in here, one request at a time."""
        with self._lock:
            for method, pattern, route in self._routes:
                if method in (request.method, "GET" if request.method == "HEAD" else None) and (
                    match := pattern.fullmatch(request.path)
                ):
                    try:
                        groups = {name: unquote(value) for name, value in match.groupdict().items() if value}
                        if "id" in groups:
                            request.repo = self._readable(groups.pop("type", "models"), groups.pop("id"), request)
                        return route(self, request, **groups)
                    except HubError as error:
                        return _error(error)
        return _error(HubError(404, f"No such route: {request.method} {request.path}"))

    def _readable(self, plural: str, repo_id: str, request: Request) -> Repo:
        repo = self.repos.get((plural.removesuffix("s"), repo_id))
        if request.headers.get("Authorization") and request.account is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        if repo is None or (repo.private and not may_read(request.account, repo)):
            # As the Hub does: a repository you may not see does not exist.
            raise HubError(404 if request.account else 401, "Repository not found", "RepoNotFound")
        return repo

    def blob(self, oid: str) -> File:
        """The uploaded large file with this sha256, by LFS or by Xet."""
        if oid not in self.lfs:
            self.lfs |= self.xet.take(oid)
        if oid not in self.lfs:
            raise HubError(400, f"The LFS object {oid} was not uploaded")
        return File(self.lfs[oid], lfs=True, xet_hash=self.xet.hashes.get(oid))


def may_read(account: Account | None, repo: Repo) -> bool:
    return account is not None and account.role != "none" and account.owns(repo.id)


def require_write(request: Request, repo_id: str) -> Account:
    """Raises HubError: 401 without a valid token, 403 where the account or its token may not write."""
    account = request.account
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if not account.owns(repo_id):
        raise HubError(403, f"You don't have the rights to create or change {repo_id}")
    if account.role != "write":
        raise HubError(403, "This token has no write permission")
    return account


def _error(error: HubError) -> Response:
    headers = {"X-Error-Message": error.message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return Response({"error": error.message}, error.status, headers)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer; with Nagle's algorithm off, 40 ms less for each
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client went away
                self.close_connection = True

        def _serve(self) -> None:
            url = urlsplit(self.path)
            # The client's look-up of coding agents, once a process and of no effect, would upset the counting.
            fault = None if url.path == "/api/agent-harnesses" else hub.faults.meet(self.command, self.path)
            what = fault.what if fault else None
            if what is What.DROP_BEFORE:
                return self._drop()
            body = self._body()
            if what in (What.ERROR_BEFORE, What.REFUSE):
                return self._send(_error(HubError(fault.status, "injected")))
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            response = hub.answer(
                Request(
                    self.command,
                    url.path,
                    parse_qs(url.query),
                    self.headers,
                    body,
                    hub.accounts.get(bearer),
                    hub.url,
                )
            )
            if what is What.DROP_AFTER:
                return self._drop()
            if what is What.ERROR_AFTER:
                response = _error(HubError(500, "injected"))
            return self._send(response, cut=what is What.CUT)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, response: Response, cut: bool = False) -> None:
            body = response.body
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
                response.headers.setdefault("Content-Type", "application/json; charset=utf-8")
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in response.headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            self.wfile.flush()
            if cut:
                self._drop()

        def _drop(self) -> None:
            self.close_connection = True
            with suppress(OSError):  # the client may have gone first
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
