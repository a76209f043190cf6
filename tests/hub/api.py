"""Routes under /api: accounts, repositories, references, listings and commits."""

import base64
import hashlib
import json
import re
from fnmatch import fnmatch

import yaml

from tests.hub.discussions import ROUTES as DISCUSSIONS
from tests.hub.repos import Commit, File, HubError, Repo, iso
from tests.hub.server import Hub, Request, Response, Route, may_read, require_write

_REGULAR_LIMIT = 10 * 2**20  # bytes; larger files are LFS whatever their name
_TYPES = ("model", "dataset", "space")


def whoami(hub: Hub, request: Request) -> Response:
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    account = request.account
    orgs = [{"type": "org", "name": org, "roleInOrg": account.role} for org in account.orgs]
    token = {"displayName": "test", "role": account.role}
    auth = {"type": "access_token", "accessToken": token}
    return Response({"type": "user", "name": account.name, "fullname": account.name, "orgs": orgs, "auth": auth})


def create_repo(hub: Hub, request: Request) -> Response:
    wanted = request.json()
    repo_type = wanted.get("type") or "model"
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    repo_id = f"{wanted.get('organization') or request.account.name}/{wanted['name']}"
    account = require_write(request, repo_id)
    url = f"{request.url}/{'' if repo_type == 'model' else repo_type + 's/'}{repo_id}"
    if (repo_type, repo_id) in hub.repos:
        return Response({"error": f"You already created this {repo_type} repo", "url": url}, 409)
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    hub.repos[repo_type, repo_id] = Repo(repo_type, repo_id, account.name, private)
    return Response({"url": url, "name": repo_id, "id": f"{len(hub.repos):024d}"})


def delete_repo(hub: Hub, request: Request) -> Response:
    wanted = request.json()
    owner = wanted.get("organization") or (request.account.name if request.account else "")
    key = (wanted.get("type") or "model", f"{owner}/{wanted['name']}")
    if key not in hub.repos:
        raise HubError(404, "Repository not found", "RepoNotFound")
    require_write(request, key[1])
    del hub.repos[key]
    return Response({})


def settings(hub: Hub, request: Request) -> Response:
    require_write(request, request.repo.id)
    wanted = request.json()
    if "visibility" in wanted or "private" in wanted:
        request.repo.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    request.repo.gated = wanted.get("gated", request.repo.gated)
    return Response({"private": request.repo.private, "gated": request.repo.gated})


def validate_yaml(hub: Hub, request: Request) -> Response:
    """Front matter that is YAML and a mapping; the Hub's own vocabulary (licenses, tasks...) is not known here."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", request.json()["content"], re.DOTALL)
    if not match:
        return Response({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        problem = (
            None if isinstance(yaml.load(match[1], Loader=yaml.CSafeLoader), dict) else '"metadata" must be an object'
        )
    except yaml.YAMLError as error:
        problem = str(error)
    errors = [{"message": problem}] if problem else []
    return Response({"errors": errors, "warnings": []}, 400 if errors else 200)


def auth_check(hub: Hub, request: Request) -> Response:
    """Whether the token may write; that it may read was checked with the route."""
    require_write(request, request.repo.id)
    return Response({})


def list_repos(hub: Hub, request: Request, type: str) -> Response:
    author = request.query.get("author", [None])[0]
    return Response(
        [
            _info(repo, repo.main)
            for (repo_type, repo_id), repo in sorted(hub.repos.items())
            if f"{repo_type}s" == type
            and (not repo.private or may_read(request.account, repo))
            and (author is None or repo_id.startswith(f"{author}/"))
        ]
    )


def repo_info(hub: Hub, request: Request, revision: str = "main") -> Response:
    blobs = request.query.get("blobs", ["false"])[0].lower() in ("true", "1")
    return Response(_info(request.repo, request.repo.resolve(revision), blobs))


def _info(repo: Repo, commit: Commit, blobs: bool = False) -> dict:
    siblings = []
    for path, file in sorted(commit.files.items()):
        more = {"size": len(file.content), "blobId": file.oid, "lfs": _lfs(file, "sha256")} if blobs else {}
        siblings.append({"rfilename": path, **{key: value for key, value in more.items() if value is not None}})
    return {
        "_id": "0" * 24,
        "id": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": commit.oid,
        "createdAt": iso(repo.history("main")[-1].date),
        "lastModified": iso(commit.date),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
        **({"modelId": repo.id} if repo.type == "model" else {}),
        **({"sdk": "static"} if repo.type == "space" else {}),
    }


def tree(hub: Hub, request: Request, revision: str, path: str = "") -> Response:
    commit = request.repo.resolve(revision)
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    prefix = f"{path}/" if path else ""
    entries = {}
    for name, file in commit.files.items():
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            if depth == 1 or recursive:
                folder = prefix + "/".join(parts[:depth])
                entries[folder] = _entry(commit, folder, None)
        if len(parts) == 1 or recursive:
            entries[name] = _entry(commit, name, file)
    if path and not entries:
        raise HubError(404, f"{path} does not exist on {revision}", "EntryNotFound")
    return _paged(hub, request, [entries[name] for name in sorted(entries)])


def paths_info(hub: Hub, request: Request, revision: str) -> Response:
    commit = request.repo.resolve(revision)
    is_form = "form" in request.headers.get("Content-Type", "")
    paths = (request.form() if is_form else request.json()).get("paths", [])
    if len(paths) > 1000:
        raise HubError(413, "too many parameters")
    found = []
    for path in paths:
        if path in commit.files:
            found.append(_entry(commit, path, commit.files[path]))
        elif any(name.startswith(f"{path}/") for name in commit.files):
            found.append(_entry(commit, path, None))
    return Response(found)


def commits(hub: Hub, request: Request, revision: str) -> Response:
    history = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": iso(commit.date),
            "parents": list(commit.parents),
        }
        for commit in request.repo.history(revision)
    ]
    return _paged(hub, request, history)


def refs(hub: Hub, request: Request) -> Response:
    repo = request.repo

    def listed(names: dict[str, str], kind: str) -> list[dict]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]

    heads = {name: oid for name, oid in repo.branches.items() if not name.startswith("refs/")}
    pulls = [
        {"name": name, "ref": name, "targetCommit": oid} for name, oid in repo.branches.items() if name not in heads
    ]
    more = {"pullRequests": pulls} if "include_prs" in request.query else {}
    return Response({"branches": listed(heads, "heads"), "converts": [], "tags": listed(repo.tags, "tags"), **more})


def create_branch(hub: Hub, request: Request, name: str) -> Response:
    require_write(request, request.repo.id)
    request.repo.create_branch(name, request.json().get("startingPoint"))
    return Response({})


def create_tag(hub: Hub, request: Request, revision: str) -> Response:
    require_write(request, request.repo.id)
    request.repo.create_tag(request.json()["tag"], revision)
    return Response({})


def delete_ref(hub: Hub, request: Request, kind: str, name: str) -> Response:
    require_write(request, request.repo.id)
    names = request.repo.tags if kind == "tag" else request.repo.branches
    if name not in names:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    request.repo.delete_ref(names, name)
    return Response({})


def super_squash(hub: Hub, request: Request, branch: str) -> Response:
    account = require_write(request, request.repo.id)
    request.repo.squash(branch, request.json()["message"], account.name)
    return Response({})


def lfs_files(hub: Hub, request: Request) -> Response:
    require_write(request, request.repo.id)
    entries = [
        {
            "fileOid": sha256,
            "filename": path,
            "oid": sha256,
            "pushedAt": iso(0),
            "ref": "main",
            "size": len(hub.lfs[sha256]),
        }
        for sha256, path in request.repo.large.items()
    ]
    return _paged(hub, request, entries)


def delete_lfs_files(hub: Hub, request: Request) -> Response:
    require_write(request, request.repo.id)
    for sha256 in request.json()["deletions"]["sha"]:
        del request.repo.large[sha256], hub.lfs[sha256]
    return Response({})


def preupload(hub: Hub, request: Request, revision: str) -> Response:
    if "create_pr" not in request.query:
        require_write(request, request.repo.id)
    present = request.repo.resolve(revision).files
    answers = []
    for file in request.json()["files"]:
        old = present.get(file["path"])
        mode = "lfs" if _is_lfs(present, file["path"]) or file["size"] > _REGULAR_LIMIT else "regular"
        oid = {"oid": old.sha256 if old.lfs else old.oid} if old else {}
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return Response({"files": answers})


def commit(hub: Hub, request: Request, revision: str) -> Response:
    create_pr = "create_pr" in request.query
    account = request.account if create_pr and request.account else require_write(request, request.repo.id)
    lines = [json.loads(line) for line in request.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    changed, deleted = {}, []
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                content = value["content"]
                changed[value["path"]] = File(
                    base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
                )
            case "lfsFile":
                changed[value["path"]] = hub.blob(value["oid"])
            case "deletedFile":
                deleted.append(value["path"])
            case "deletedFolder":
                deleted.append(value["path"].rstrip("/") + "/")
    branch, pull, title = revision, None, header["summary"]
    if create_pr:
        pull = request.repo.open_discussion(title, header.get("description", ""), account.name, True)
        branch = pull.ref
    made = request.repo.commit(
        branch, changed, deleted, title, header.get("description", ""), account.name, header.get("parentCommit")
    )
    page = f"{request.url}/{request.repo.type}s/{request.repo.id}"
    answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}"}
    return Response({**answer, **({"pullRequestUrl": f"{page}/discussions/{pull.num}"} if pull else {})})


def telemetry(hub: Hub, request: Request) -> Response:
    return Response()


def _is_lfs(files: dict[str, File], path: str) -> bool:
    attributes = files[".gitattributes"].content.decode() if ".gitattributes" in files else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    return any(fnmatch(path, pattern) or fnmatch(path.rpartition("/")[2], pattern) for pattern in patterns)


def _lfs(file: File, key: str) -> dict | None:
    return {key: file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)} if file.lfs else None


def _entry(commit: Commit, path: str, file: File | None) -> dict:
    if file is None:
        inside = "".join(f"{name}{f.oid}" for name, f in sorted(commit.files.items()) if name.startswith(f"{path}/"))
        return {"type": "directory", "oid": hashlib.sha1(inside.encode()).hexdigest(), "size": 0, "path": path}
    entry = {"type": "file", "oid": file.oid, "size": len(file.content), "path": path}
    more = {"lfs": _lfs(file, "oid"), "xetHash": file.xet_hash}
    return {**entry, **{key: value for key, value in more.items() if value}}


def _paged(hub: Hub, request: Request, entries: list[dict]) -> Response:
    start = int(request.query.get("cursor", ["0"])[0])
    headers = {}
    if start + hub.page < len(entries):
        kept = "".join(f"&{key}={value[0]}" for key, value in request.query.items() if key != "cursor")
        headers["Link"] = f'<{request.url}{request.path}?cursor={start + hub.page}{kept}>; rel="next"'
    return Response(entries[start : start + hub.page], headers=headers)


_REPO = r"/api/(?P<type>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
ROUTES: list[Route] = [
    ("GET", re.compile("/api/whoami-v2"), whoami),
    ("POST", re.compile("/api/repos/create"), create_repo),
    ("DELETE", re.compile("/api/repos/delete"), delete_repo),
    ("POST", re.compile("/api/validate-yaml"), validate_yaml),
    ("GET", re.compile("/api/(?P<type>models|datasets|spaces)"), list_repos),
    ("GET", re.compile(_REPO), repo_info),
    ("GET", re.compile(_REPO + "/auth-check/write"), auth_check),
    ("GET", re.compile(_REPO + "/revision/(?P<revision>[^/]+)"), repo_info),
    ("GET", re.compile(_REPO + "/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?"), tree),
    ("POST", re.compile(_REPO + "/paths-info/(?P<revision>[^/]+)"), paths_info),
    ("GET", re.compile(_REPO + "/commits/(?P<revision>[^/]+)"), commits),
    ("GET", re.compile(_REPO + "/refs"), refs),
    ("POST", re.compile(_REPO + "/branch/(?P<name>[^/]+)"), create_branch),
    ("POST", re.compile(_REPO + "/tag/(?P<revision>[^/]+)"), create_tag),
    ("POST", re.compile(_REPO + "/super-squash/(?P<branch>[^/]+)"), super_squash),
    ("GET", re.compile(_REPO + "/lfs-files"), lfs_files),
    ("POST", re.compile(_REPO + "/lfs-files/batch"), delete_lfs_files),
    ("DELETE", re.compile(_REPO + "/(?P<kind>branch|tag)/(?P<name>[^/]+)"), delete_ref),
    ("PUT", re.compile(_REPO + "/settings"), settings),
    ("POST", re.compile(_REPO + "/preupload/(?P<revision>[^/]+)"), preupload),
    ("POST", re.compile(_REPO + "/commit/(?P<revision>[^/]+)"), commit),
    ("GET", re.compile("/api/telemetry/.*"), telemetry),
    *DISCUSSIONS,
]
