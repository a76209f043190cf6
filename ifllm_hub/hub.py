"""The Hugging Face Hub: which files of a folder to push, in one commit or none, and its failures as one clear error."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ifllm_hub import __version__
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_log = logging.getLogger(__name__)

# The Hub itself creates these, so a repo with nothing else is empty.
_OF_THE_HUB = {".gitattributes", "README.md"}
_NAMED = 10

_ADVICE: dict[int | None, str] = {
    400: "the Hub refused the request ({detail}).",
    401: "the Hub does not accept the token. Log in again with `hf auth login`, or set HF_TOKEN.",
    403: "this token may not write there ({detail}). Use one that may, or another name.",
    404: "not on the Hub, or not visible to this token ({detail}). Check the id and the revision.",
    409: "the name is taken on the Hub ({detail}). Choose another, or use a token that can access it.",
    412: "somebody else committed in the meantime. Run it again to compare with what is there now.",
}
_BROKEN_OFF = "{hub} failed or cannot be reached ({detail}). Run it again; it continues from what is there."


@contextmanager
def clear_hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into an error that names the repo and says what to do.

    Raises:
        IfllmError: the id is malformed, there is no such repo, the token lacks permission, or the Hub failed.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import httpx

    try:
        yield
    except HFValidationError as error:
        raise IfllmError(f"{repo_id}: not a Hub repo id. {error}") from error
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # an upload in a thread
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if isinstance(cause, RepositoryNotFoundError):  # the Hub answers 401 to those who may not know
            status = 404
        detail = " ".join(str(getattr(cause, "server_message", None) or cause or type(cause).__name__).split())
        advice = _ADVICE.get(status, _BROKEN_OFF).format(detail=detail, hub=constants.ENDPOINT)
        raise IfllmError(f"{repo_id}: {advice}") from error


@dataclass(frozen=True)
class Kind:
    """A kind of folder that we push.

    Attributes:
        name: what messages call it.
        repo_type: `model`, `dataset` or `space`.
        files: patterns of the paths it consists of; `*` matches within one name. Nothing else is sent.
        sign: the JSON file that identifies a repo of this kind.
        is_ours: whether this package wrote the content of that file.
        insist: the flag that allows replacing something else, for messages; None if there is none.
        scratch: patterns of other files that our commands leave in such a folder; they are left out silently.
    """

    name: str
    repo_type: str
    files: tuple[str, ...]
    sign: str
    is_ours: Callable[[Any], bool]
    insist: str | None = None
    scratch: tuple[str, ...] = ()

    def has(self, path: str) -> bool:
        """Whether a file with this path belongs to the kind."""
        return _fits(path, self.files)


def _fits(path: str, patterns: tuple[str, ...]) -> bool:
    # `match` compares from the right, so the number of parts must be the same.
    return any(path.count("/") == pattern.count("/") and PurePosixPath(path).match(pattern) for pattern in patterns)


def sort_out(folder: Path, kind: Kind) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a folder to send, by path in the repo, and the names of those left out.

    A link is left out whatever its name, since its target lies elsewhere; the links of the Hub's own cache are not.
    A folder with nothing to send is named as a whole.
    """
    sent, rest = {}, []
    for parent, folders, names in os.walk(folder):  # enters no linked folder
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        for path in (Path(parent, name) for name in (*names, *linked)):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and kind.has(name) and (not path.is_symlink() or _is_cached(path, folder)):
                sent[name] = path
            elif not _fits(name.partition("/")[0], kind.scratch):
                rest.append(f"{name} (a link)" if path.is_symlink() else name)
    folders_sent = {name.partition("/")[0] for name in sent if "/" in name}
    left_out = {
        f"{top}/" if inner and top not in folders_sent else name
        for name in rest
        for top, _, inner in [name.partition("/")]
    }
    return dict(sorted(sent.items())), tuple(sorted(left_out))


def _is_cached(link: Path, folder: Path) -> bool:
    return folder.parent.name == "snapshots" and link.resolve().parent == folder.parent.parent.resolve() / "blobs"


def left_out_line(left_out: tuple[str, ...], kind: Kind) -> str:
    """One line about what is not sent, for the user."""
    more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
    return f"left out, not part of a {kind.name}: {', '.join(left_out[:_NAMED])}{more}"


def files_to_push(folder: Path, kind: Kind) -> dict[str, Path]:
    """The files of a folder to send; one line of the log names what is left out."""
    sent, left_out = sort_out(folder, kind)
    if left_out:
        _log.warning("%s: %s", folder, left_out_line(left_out, kind))
    return sent


def claim_repo(
    repo_id: str, kind: Kind, private: bool | None = None, force: bool = False, token: str | None = None
) -> str:
    """Make sure, before hours of work, that the result can be pushed; creates the repo if there is none.

    Args:
        repo_id: owner/name, or only the name of a repo of the token's owner.
        private: make a new repo private.
        force: allow a repo that this package did not make; its content will be replaced.

    Returns:
        owner/name.

    Raises:
        IfllmError: the repo holds something else, the token may not write there, or the Hub failed.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with clear_hub_errors(repo_id):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        if _head_and_files(api, repo_id, kind, force)[0] is None:
            _create(api, repo_id, kind, private)
        else:
            api.auth_check(repo_id, repo_type=kind.repo_type, write=True)
    return repo_id


def commit_files(
    files: Mapping[str, Path | bytes],
    repo_id: str,
    kind: Kind,
    private: bool | None = None,
    force: bool = False,
    token: str | None = None,
) -> str:
    """Put files into a repo in one commit, so that a reader finds all of them or none; creates the repo if needed.

    Other files of the same kind in the repo are deleted; files of no such kind stay.

    Args:
        files: path in the repo -> file here, or its content.
        private: make a new repo private.
        force: replace everything in the repo, whoever made it.

    Returns:
        The commit that `main` is at; unchanged content makes no new one.

    Raises:
        IfllmError: the repo holds something else, somebody else committed in the meantime, the token may not write
            there, or the Hub failed. The repo is then either unchanged or complete.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    with clear_hub_errors(repo_id):
        head, there = _head_and_files(api, repo_id, kind, force)
        if head is None:
            _create(api, repo_id, kind, private)
        gone = [path for path in there if path not in files and path != ".gitattributes" and (force or kind.has(path))]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, content) for path, content in files.items()),
            *(CommitOperationDelete(path) for path in gone),
        ]
        message = f"Push with ifllm_hub {__version__}"
        made = api.create_commit(
            repo_id, operations, commit_message=message, repo_type=kind.repo_type, parent_commit=head
        )
    return str(made.oid)


def refuse_foreign(api: "HfApi", repo_id: str, kind: Kind, commit: str, there: Collection[str]) -> None:
    """Refuse a repo that holds something this package did not make.

    Args:
        commit: the state to look at.
        there: the paths of its files.

    Raises:
        IfllmError: the repo holds something else. What the Hub raises is passed on.
    """
    foreign = sorted(set(there) - _OF_THE_HUB)
    if not foreign or (kind.sign in foreign and _is_ours(api, repo_id, kind, commit)):
        return
    named = ", ".join(foreign[:3]) + ", ..." * (len(foreign) > 3)
    instead = f", or replace all of it with {kind.insist}" if kind.insist else ""
    raise IfllmError(
        f"{repo_id}: exists on the Hub and was not made by this command: it holds {named}, and no {kind.sign} of a "
        f"{kind.name} made by ifllm_hub. Choose another name{instead}."
    )


def _is_ours(api: "HfApi", repo_id: str, kind: Kind, commit: str) -> bool:
    file = api.hf_hub_download(repo_id, kind.sign, repo_type=kind.repo_type, revision=commit)
    try:
        return kind.is_ours(json.loads(Path(file).read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        return False


def _head_and_files(api: "HfApi", repo_id: str, kind: Kind, force: bool) -> tuple[str | None, list[str]]:
    """The commit of `main` and the paths of its files; None if there is no repo. Refuses foreign content."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info: Any = api.repo_info(repo_id, repo_type=kind.repo_type)
    except RepositoryNotFoundError:
        return None, []
    there = sorted(file.rfilename for file in info.siblings or ())
    if not force:
        refuse_foreign(api, repo_id, kind, str(info.sha), there)
    return str(info.sha), there


def _create(api: "HfApi", repo_id: str, kind: Kind, private: bool | None) -> None:
    sdk = "gradio" if kind.repo_type == "space" else None
    api.create_repo(repo_id, repo_type=kind.repo_type, private=private, space_sdk=sdk)
