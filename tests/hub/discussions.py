"""Routes of discussions and pull requests."""

import re

from tests.hub.repos import Discussion, HubError, iso
from tests.hub.server import Hub, Request, Response, Route, require_write


def listed(hub: Hub, request: Request) -> Response:
    found = [_summary(request, discussion) for discussion in request.repo.discussions.values()]
    return Response({"discussions": found[::-1], "count": len(found), "start": 0})


def opened(hub: Hub, request: Request) -> Response:
    if request.account is None or request.account.role == "none":
        raise HubError(401, "Invalid username or password.")
    wanted = request.json()
    discussion = request.repo.open_discussion(
        wanted["title"], wanted.get("description", ""), request.account.name, bool(wanted.get("pullRequest"))
    )
    return Response({"num": discussion.num, "pullRequest": discussion.is_pull_request})


def details(hub: Hub, request: Request, num: str) -> Response:
    discussion = _discussion(request, num)
    answer = {**_summary(request, discussion), "events": discussion.events}
    if discussion.is_pull_request:
        open_ = discussion.status in ("open", "draft")
        answer |= {
            "changes": {"base": "refs/heads/main", "mergeCommitId": discussion.merge_commit},
            "filesWithConflicts": request.repo.conflicts(discussion) if open_ else [],
            "diff": "",
        }
    return Response(answer)


def merge(hub: Hub, request: Request, num: str) -> Response:
    account = require_write(request, request.repo.id)
    request.repo.merge(_discussion(request, num), account.name)
    return Response({})


def comment(hub: Hub, request: Request, num: str) -> Response:
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    text = request.json()["comment"]
    data = {"edited": False, "hidden": False, "latest": {"raw": text, "html": text}}
    return Response({"newMessage": _discussion(request, num).add_event("comment", request.account.name, data)})


def status(hub: Hub, request: Request, num: str) -> Response:
    account = require_write(request, request.repo.id)
    discussion = _discussion(request, num)
    discussion.status = request.json()["status"]
    return Response({"newStatus": discussion.add_event("status-change", account.name, {"status": discussion.status})})


def _discussion(request: Request, num: str) -> Discussion:
    try:
        return request.repo.discussions[int(num)]
    except KeyError:
        raise HubError(404, "Discussion not found") from None


def _summary(request: Request, discussion: Discussion) -> dict:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.events[0]["createdAt"] if discussion.events else iso(0),
        "status": discussion.status,
        "isPullRequest": discussion.is_pull_request,
        "repo": {"name": request.repo.id, "type": request.repo.type},
    }


_DISCUSSIONS = r"/api/(?P<type>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)/discussions"
ROUTES: list[Route] = [
    ("GET", re.compile(_DISCUSSIONS), listed),
    ("POST", re.compile(_DISCUSSIONS), opened),
    ("GET", re.compile(_DISCUSSIONS + r"/(?P<num>\d+)"), details),
    ("POST", re.compile(_DISCUSSIONS + r"/(?P<num>\d+)/merge"), merge),
    ("POST", re.compile(_DISCUSSIONS + r"/(?P<num>\d+)/comment"), comment),
    ("POST", re.compile(_DISCUSSIONS + r"/(?P<num>\d+)/status"), status),
]
