"""Earlier versions of a dataset repo: who is still in them, and how to delete them for good."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from ifllm_hub.dataset.manifest import Manifest
from ifllm_hub.terms import MODES

# The configs that together name everybody in a dataset.
_NAMING = MODES


class Older(NamedTuple):
    """Versions with people who have since been removed.

    Attributes:
        versions: tags, and commits of the branch that have no tag, shortened.
        branches: names of other branches.
    """

    versions: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()


def older_versions(api: HfApi, repo_id: str, revision: str, folder: Path, manifest: Manifest) -> Older:
    """Which versions on the Hub have people whom the folder, from which some were removed, no longer has.

    Args:
        revision: the branch that the folder goes to; it need not exist.
        folder: a dataset folder.
        manifest: the folder's.

    Raises what the Hub raises.
    """
    if "release_sha256" in manifest and not manifest["withdrawn"]["workers"]:
        return Older()
    refs = api.list_repo_refs(repo_id, repo_type="dataset")
    branches = {branch.name: branch.target_commit for branch in refs.branches}
    versions = {tag.name: tag.target_commit for tag in refs.tags}
    commits = history(api, repo_id, revision) if revision in branches else []
    versions |= {commit[:8]: commit for commit in commits if commit not in versions.values()}
    branches.pop(revision, None)
    here = _people(path for mode in _NAMING for path in folder.glob(f"data/{mode}/*.parquet"))
    holds = {
        commit: bool(_people(_downloaded(api, repo_id, commit)) - here)
        for commit in {*versions.values(), *branches.values()}
    }
    return Older(
        tuple(name for name, commit in versions.items() if holds[commit]),
        tuple(name for name, commit in branches.items() if holds[commit]),
    )


def history(api: HfApi, repo_id: str, branch: str) -> list[str]:
    """The commits of a branch, newest first. Raises what the Hub raises."""
    return [commit.commit_id for commit in api.list_repo_commits(repo_id, repo_type="dataset", revision=branch)]


def forget_history(api: HfApi, repo_id: str, branch: str = "main") -> str:
    """Squash a branch's history into one commit, which is returned. Raises what the Hub raises."""
    if len(history(api, repo_id, branch)) > 1:
        api.super_squash_history(repo_id, branch=branch, repo_type="dataset")
    return str(api.dataset_info(repo_id, revision=branch).sha)


def forget_versions(api: HfApi, repo_id: str, kept: Collection[str] | None = None) -> None:
    """Delete tags that are not at the head of a branch and, for good, the large files that no head of a branch uses.

    Args:
        kept: the branches that count; all if None.

    Raises what the Hub raises; a second call then finishes.
    """
    refs = api.list_repo_refs(repo_id, repo_type="dataset")
    heads = {branch.target_commit for branch in refs.branches if kept is None or branch.name in kept}
    for tag in refs.tags:
        if tag.target_commit not in heads:
            api.delete_tag(repo_id, tag=tag.name, repo_type="dataset")
    entries = (
        entry
        for head in heads
        for entry in api.list_repo_tree(repo_id, repo_type="dataset", revision=head, recursive=True)
    )
    needed = {entry.lfs.sha256 for entry in entries if isinstance(entry, RepoFile) and entry.lfs}
    stored = api.list_lfs_files(repo_id, repo_type="dataset")
    stale = [file for file in stored if file.file_oid not in needed]
    api.permanently_delete_lfs_files(repo_id, stale, rewrite_history=False, repo_type="dataset")


def _downloaded(api: HfApi, repo_id: str, commit: str) -> Iterator[Path]:
    for entry in api.list_repo_tree(repo_id, repo_type="dataset", revision=commit, recursive=True):
        if isinstance(entry, RepoFile) and any(
            PurePosixPath(entry.path).match(f"data/{mode}/*.parquet") for mode in _NAMING
        ):
            yield Path(api.hf_hub_download(repo_id, entry.path, repo_type="dataset", revision=commit))


def _people(paths: Iterable[Path]) -> set[str]:
    """The workers named in some files; a file that is not one of ours names nobody."""
    people: set[str] = set()
    for path in paths:
        try:
            people.update(pq.read_table(path, columns=["worker_id"])["worker_id"].to_pylist())
        except (pa.ArrowException, KeyError):
            continue
    return people
