"""What the loopback Hub stores: repositories of immutable commits, with branches, tags and pull requests."""

import copy
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType

GITATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n"

_clock = itertools.count(1_700_000_000)


class HubError(Exception):
    """An answer other than success; `code` is what the Hub sends as `X-Error-Code`."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


@dataclass(frozen=True)
class Account:
    """Who a token belongs to, and what the token may do there: `write`, `read` or `none`."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.name, *self.orgs)


@dataclass(frozen=True)
class File:
    """A file of a commit; large files (`lfs`) stand in git as a pointer to their sha256."""

    content: bytes
    lfs: bool = False
    xet_hash: str | None = None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @cached_property
    def oid(self) -> str:
        """The git object id: of the content, or of the pointer."""
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()


@dataclass(frozen=True)
class Commit:
    files: Mapping[str, File]
    parents: tuple[str, ...]
    title: str
    message: str
    author: str
    date: int = field(default_factory=lambda: next(_clock))

    @cached_property
    def oid(self) -> str:
        tree = "".join(f"{path}\0{file.oid}\n" for path, file in sorted(self.files.items()))
        head = f"{self.parents}{self.title}{self.message}{self.author}{self.date}"
        return hashlib.sha1(f"{head}\n{tree}".encode()).hexdigest()


@dataclass
class Discussion:
    num: int
    title: str
    author: str
    is_pull_request: bool
    base: str | None = None  # the commit a pull request was opened on
    status: str = "open"
    events: list[dict] = field(default_factory=list)
    merge_commit: str | None = None

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"

    def add_event(self, type_: str, author: str, data: dict) -> dict:
        event = {
            "id": f"{self.num:08d}{len(self.events):08d}",
            "type": type_,
            "createdAt": iso(next(_clock)),
            "author": {"name": author},
            "data": data,
        }
        self.events.append(event)
        return event


class Repo:
    """One repository. `branches` (with `refs/pr/N`) and `tags` name commits; commits never change."""

    def __init__(self, type_: str, id_: str, owner: str, private: bool = False):
        self.type, self.id, self.private, self.gated = type_, id_, private, False
        first = Commit({".gitattributes": File(GITATTRIBUTES)}, (), "initial commit", "", owner)
        self.commits = {first.oid: first}
        self.branches = {"main": first.oid}
        self.tags: dict[str, str] = {}
        self.discussions: dict[int, Discussion] = {}
        self.large: dict[str, str] = {}  # sha256 -> path of every large file that was ever in a commit

    def copy(self) -> "Repo":
        """The repository as it is now; later changes to either do not reach the other."""
        twin = copy.copy(self)
        twin.commits, twin.branches, twin.tags = dict(self.commits), dict(self.branches), dict(self.tags)
        twin.discussions = copy.deepcopy(self.discussions)
        twin.large = dict(self.large)
        return twin

    @property
    def main(self) -> Commit:
        return self.commits[self.branches["main"]]

    def resolve(self, revision: str) -> Commit:
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or name
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """Newest first, along first parents."""
        commits = [self.resolve(revision)]
        while commits[-1].parents:
            commits.append(self.commits[commits[-1].parents[0]])
        return commits

    def commit(
        self,
        branch: str,
        changed: Mapping[str, File],
        deleted: Iterable[str],
        title: str,
        message: str,
        author: str,
        parent: str | None = None,
        other_parents: tuple[str, ...] = (),
    ) -> Commit:
        """Make a commit on a branch.

        Args:
            deleted: paths; a folder ends with "/".
            parent: what the branch must point at.
        """
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.commits[self.branches[branch]]
        if parent is not None and parent != head.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for path in deleted:
            gone = [name for name in files if name == path or (path.endswith("/") and name.startswith(path))]
            if not gone:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        self.large |= {file.sha256: path for path, file in changed.items() if file.lfs}
        new = Commit(MappingProxyType({**files, **changed}), (head.oid, *other_parents), title, message, author)
        self.commits[new.oid] = new
        self.branches[branch] = new.oid
        return new

    def squash(self, branch: str, message: str, author: str) -> None:
        """The branch's files as its only commit; of the old ones, those stay that another branch or a tag leads to."""
        old = self.history(branch)
        new = Commit(old[0].files, (), message, "", author)
        self.commits[new.oid] = new
        self.branches[branch] = new.oid
        for commit in old:
            if not self._leads_to(commit.oid):
                del self.commits[commit.oid]

    def delete_ref(self, names: dict[str, str], name: str) -> None:
        """Delete one of the branches or tags, and the commits that only it led to."""
        gone = self.history(name)
        del names[name]
        for commit in gone:
            if not self._leads_to(commit.oid):
                del self.commits[commit.oid]

    def _leads_to(self, oid: str) -> bool:
        return any(oid == commit.oid for ref in (*self.branches, *self.tags) for commit in self.history(ref))

    def create_branch(self, name: str, start: str | None) -> None:
        if name.startswith("refs/"):
            raise HubError(400, f"Invalid reference for a branch: {name}")
        if name in self.branches:
            raise HubError(409, "Reference already exists")
        self.branches[name] = self.resolve(start or "main").oid

    def create_tag(self, name: str, revision: str) -> None:
        if name in self.tags:
            raise HubError(409, "Tag reference exists already")
        self.tags[name] = self.resolve(revision).oid

    def open_discussion(self, title: str, description: str, author: str, is_pull_request: bool) -> Discussion:
        num = len(self.discussions) + 1
        base = self.branches["main"] if is_pull_request else None
        discussion = Discussion(num, title, author, is_pull_request, base, "draft" if is_pull_request else "open")
        latest = {"raw": description, "html": description}
        discussion.add_event("comment", author, {"edited": False, "hidden": False, "latest": latest})
        if base:
            self.branches[discussion.ref] = base
        self.discussions[num] = discussion
        return discussion

    def conflicts(self, pull: Discussion) -> list[str]:
        """Paths changed both by a pull request and on main since it was opened."""
        base, ours, theirs = (self.commits[oid].files for oid in (pull.base, self.branches["main"], self._head(pull)))
        return sorted(
            path
            for path in {*base, *ours, *theirs}
            if len({(file.oid if (file := side.get(path)) else None) for side in (base, ours, theirs)}) == 3
        )

    def merge(self, pull: Discussion, author: str) -> Commit:
        if pull.status not in ("open", "draft"):
            raise HubError(409, "This pull request is not open")
        if self.conflicts(pull):
            raise HubError(409, "This pull request has conflicts")
        base, theirs = self.commits[pull.base].files, self.commits[self._head(pull)].files
        changed = {path: file for path, file in theirs.items() if path not in base or base[path].oid != file.oid}
        deleted = [path for path in base if path not in theirs and path in self.main.files]
        title = f"{pull.title} (#{pull.num})"
        new = self.commit("main", changed, deleted, title, "", author, other_parents=(self._head(pull),))
        pull.status, pull.merge_commit = "merged", new.oid
        pull.add_event("status-change", author, {"status": "merged"})
        return new

    def _head(self, pull: Discussion) -> str:
        return self.branches[pull.ref]


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
