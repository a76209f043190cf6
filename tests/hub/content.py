"""Routes that carry file contents: resolve, raw, LFS, the storage behind it, and Xet tokens."""

import hashlib
import re

from tests.hub.repos import Account, Commit, File, HubError, Repo
from tests.hub.server import Hub, Request, Response, Route, may_read, require_write

_REPO = r"/(?:(?P<type>datasets|spaces)/)?(?P<id>[^/]+/[^/]+?)"


def resolve(hub: Hub, request: Request, revision: str, path: str) -> Response:
    commit = request.repo.resolve(revision)
    _require_grant(request.account, request.repo)
    file = _file(commit, path)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if not file.lfs:
        return _ranged(request, file.content, {**headers, "ETag": f'"{file.oid}"'})
    headers |= {
        "X-Linked-Etag": f'"{file.sha256}"',
        "X-Linked-Size": str(len(file.content)),
        "Location": f"{_storage(request)}/storage/{file.sha256}",
    }
    if file.xet_hash:
        route = f"{request.url}/api/{request.repo.type}s/{request.repo.id}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{route}>; rel="xet-auth"'}
    return Response(b"", 302, headers)


def raw(hub: Hub, request: Request, revision: str, path: str) -> Response:
    file = _file(request.repo.resolve(revision), path)
    return Response(file.pointer if file.lfs else file.content, headers={"Content-Type": "text/plain"})


def lfs_batch(hub: Hub, request: Request) -> Response:
    require_write(request, request.repo.id)
    verify = f"{request.url}{request.path.removesuffix('/objects/batch')}/verify"
    objects = []
    for wanted in request.json()["objects"]:
        actions = {
            "upload": {"href": f"{_storage(request)}/storage/{wanted['oid']}", "header": {}},
            "verify": {"href": verify, "header": {}},
        }
        objects.append({**wanted, **({} if wanted["oid"] in hub.lfs else {"actions": actions})})
    return Response({"transfer": "basic", "objects": objects})


def lfs_verify(hub: Hub, request: Request) -> Response:
    require_write(request, request.repo.id)
    wanted = request.json()
    if len(hub.lfs.get(wanted["oid"], b"")) != wanted["size"]:
        raise HubError(404, "The object was not uploaded")
    return Response({})


def store(hub: Hub, request: Request, sha256: str) -> Response:
    _signed(request)
    if hashlib.sha256(request.body).hexdigest() != sha256:
        raise HubError(400, "The content does not match the signed checksum")
    hub.lfs[sha256] = request.body
    return Response(b"", headers={"ETag": f'"{sha256}"'})


def fetch(hub: Hub, request: Request, sha256: str) -> Response:
    _signed(request)
    if sha256 not in hub.lfs:
        raise HubError(404, "No such object")
    return _ranged(request, hub.lfs[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


def xet_token(hub: Hub, request: Request, access: str, revision: str) -> Response:
    if access == "write":
        require_write(request, request.repo.id)
    token = hub.xet.connection()
    headers = {
        "X-Xet-Cas-Url": token["casUrl"],
        "X-Xet-Access-Token": token["accessToken"],
        "X-Xet-Token-Expiration": str(token["exp"]),
    }
    return Response(token, headers=headers)


def _file(commit: Commit, path: str) -> File:
    if path not in commit.files:
        raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    return commit.files[path]


def _require_grant(account: Account | None, repo: Repo) -> None:
    """The gate: members pass; there is no form to fill in, so nobody else does."""
    if repo.gated and not may_read(account, repo):
        raise HubError(403 if account else 401, f"Access to {repo.id} is restricted", "GatedRepo")


def _ranged(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    headers = {"Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not match:
        return Response(content, headers=headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(len(content), int(last) + 1) if first and last else len(content)
    if start >= stop:
        raise HubError(416, "Range not satisfiable", None, {"Content-Range": f"bytes */{len(content)}"})
    return Response(content[start:stop], 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})


def _storage(request: Request) -> str:
    """The storage is another host to the clients, as on the Hub: they must not send their token there."""
    return request.url.replace("127.0.0.1", "localhost")


def _signed(request: Request) -> None:
    if "Authorization" in request.headers or not request.headers["Host"].startswith("localhost:"):
        raise HubError(400, "Only one auth mechanism allowed")


ROUTES: list[Route] = [
    ("GET", re.compile(_REPO + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)"), resolve),
    ("GET", re.compile(_REPO + r"/raw/(?P<revision>[^/]+)/(?P<path>.+)"), raw),
    ("POST", re.compile(_REPO + r"\.git/info/lfs/objects/batch"), lfs_batch),
    ("POST", re.compile(_REPO + r"\.git/info/lfs/verify"), lfs_verify),
    ("PUT", re.compile(r"/storage/(?P<sha256>[0-9a-f]{64})"), store),
    ("GET", re.compile(r"/storage/(?P<sha256>[0-9a-f]{64})"), fetch),
    (
        "GET",
        re.compile(
            r"/api/(?P<type>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)/xet-(?P<access>read|write)-token/(?P<revision>[^/]+)"
        ),
        xet_token,
    ),
]
