"""A dataset folder -> a Hub repo, in one commit: readers of a branch see the old version or the new one, never a mix.

Files are compared by hash, so that unchanged content makes no commit, and the next run completes one that was
interrupted. `upload_folder` is not used: it may split a folder into several commits. Only files of known names, and the
Parquet files that the card lists, are sent.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ifllm_hub import __version__
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.contents import CONTENTS, Contents, card_configs, read_contents, types_of
from ifllm_hub.dataset.manifest import MANIFEST, read_manifest
from ifllm_hub.dataset.privacy.report import is_unreported, unreported
from ifllm_hub.dataset.publishing.sending import DATASET, is_gated, sendable
from ifllm_hub.dataset.publishing.versions import Older, forget_history, forget_versions, history, older_versions
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.hub import clear_hub_errors, left_out_line, refuse_foreign

_SIGNS = {"+": "added", "~": "changed", "-": "deleted"}


class Hashes(NamedTuple):
    """Hashes of a file's content, in hexadecimal: its id in git, and its sha256, the id in LFS."""

    git: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What publishing a folder would change on the Hub; `str(plan)` shows it to the user.

    Attributes:
        files: the folder's files to send.
        left_out: the others: links, and files that are not part of a dataset.
        head: the commit that the folder was compared with; None where the repo does not exist.
        new_branch: `revision` does not exist and would start at `head`.
        tags: name -> commit, as on the Hub.
        operations: path -> "+" (added), "~" (changed) or "-" (deleted).
        gated: readers must ask for access, because there are trajectories.
        differences: in rows and columns, one line each.
        breaking: the differences that break readers: a config, split or column is gone, or a column's type changed.
        older: versions on the Hub with people whom the folder no longer has.
    """

    folder: Path
    repo_id: str
    revision: str
    files: dict[str, Hashes]
    head: str | None
    new_branch: bool
    tags: dict[str, str]
    operations: dict[str, str]
    gated: bool
    differences: tuple[str, ...]
    breaking: tuple[str, ...]
    older: Older
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        signs = list(self.operations.values())
        counts = ", ".join(f"{signs.count(sign)} {what}" for sign, what in _SIGNS.items() if sign in signs)
        where = f"{'new repo' if self.head is None else self.revision}{', access on request' * self.gated}"
        lines = [f"{self.repo_id}, {where}: {counts or 'nothing changed'}"]
        lines += [f"  {sign} {path}" for path, sign in self.operations.items()]
        lines += [f"  {line}{' (breaks readers)' * (line in self.breaking)}" for line in self.differences]
        return "\n".join(lines)

    def warnings(self, squash: bool) -> list[str]:
        """What else to tell the user: what is not sent, whether it may be, and where people who withdrew can
        still be found.

        Args:
            squash: older versions will be deleted.
        """
        told = [left_out_line(self.left_out, DATASET)] if self.left_out else []
        manifest = read_manifest(self.folder)
        if "imported" in manifest and manifest["imported"]["license"] == "unknown":
            told.append(f"{self.repo_id}: no license of these recordings is known. {manifest['imported']['terms']}")
        if self.older.versions and not squash:
            told.append(
                f"{self.repo_id}: older versions ({', '.join(self.older.versions)}) still contain people who have "
                "since been removed, and can be downloaded. Add --squash to delete them for good."
            )
        if self.older.branches:
            told.append(
                f"{self.repo_id}: other branches ({', '.join(self.older.branches)}) still contain people who have "
                "since been removed. Publish there too, with --revision and --squash, or delete them."
            )
        return told


@contextmanager
def planned(folder: Path, repo_id: str, revision: str = "main", force: bool = False) -> Iterator[Plan]:
    """The plan for a copy of a dataset folder whose card names the repo that it goes to.

    The copy is deleted when the block ends, so carry out the plan within it. See `plan_publication`.

    Raises:
        IfllmError: see `plan_publication`.
    """
    files, left_out = sendable(folder, _check_folder(folder))
    is_gated(folder, read_manifest(folder))  # judged by what is there, even if it is left out
    with tempfile.TemporaryDirectory(prefix="ifllm-publish-") as scratch:
        copy = Path(scratch) / "dataset"
        for name, file in files.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / name)
        write_card(copy, repo_id)
        yield replace(plan_publication(copy, repo_id, revision, force), left_out=left_out)


def plan_publication(folder: Path, repo_id: str, revision: str = "main", force: bool = False) -> Plan:
    """Check a dataset folder and compare it with a Hub repo; nothing is written.

    Args:
        repo_id: owner/name of a dataset repo, which need not exist.
        revision: a branch, which need not exist.
        force: replace everything in a repo that holds something other than a dataset of ours.

    Raises:
        IfllmError: the folder is not an intact dataset, or not what its manifest says; the repo id is malformed, or the
            repo is not a dataset of ours; the Hub cannot be reached.
    """
    contents = _check_folder(folder)
    sent, left_out = sendable(folder, contents)
    manifest = read_manifest(folder)
    gated = is_gated(folder, manifest)
    files = {name: _hashes(path) for name, path in sent.items()}
    api = HfApi()
    with clear_hub_errors(repo_id):
        head, new_branch, tags = _references(api, repo_id, revision)
        there = repo_files(api, repo_id, head) if head else {}
        if head and not force:
            refuse_foreign(api, repo_id, DATASET, head, there)
        changed = {name for name in files if name in there and not _same(there[name], files[name])}
        before = contents if CONTENTS in there else {}
        if CONTENTS in changed:
            was = api.hf_hub_download(repo_id, CONTENTS, repo_type="dataset", revision=head)
            before = read_contents(Path(was), f"{repo_id}/{CONTENTS}")
        older = older_versions(api, repo_id, revision, folder, manifest) if head else Older()
    operations = {name: "~" if name in changed else "+" for name in files if name in changed or name not in there}
    operations |= {name: "-" for name in sorted(there) if name not in files and (force or DATASET.has(name))}
    differences, breaking = _compare(before, contents)
    return Plan(
        folder,
        repo_id,
        revision,
        files,
        head,
        new_branch,
        tags,
        operations,
        gated,
        differences,
        breaking,
        older,
        left_out,
    )


def publish(
    plan: Plan,
    private: bool = False,
    tag: str | None = None,
    allow_breaking: bool = False,
    versioned: bool = True,
    squash: bool = False,
) -> tuple[str, str | None]:
    """Carry out a plan: create or gate the repo if needed, make one commit, check it by hash, and tag it.

    Args:
        private: make a new repo private; an existing public one is refused.
        tag: name of the version tag; by default the next of v1, v2, ... on `main`, and none on another branch.
            Content that already has such a tag gets no new one.
        allow_breaking: publish although readers of the old version may break.
        versioned: set a version tag; if False, the commit is a state of the branch that the next one replaces.
        squash: afterwards delete for good what came before: the branch's history, tags that are not at the head of a
            branch, and large files that only these used. The tag is then a new one, even for unchanged content.

    Returns:
        The commit that the branch is at, and the tag if one was set.

    Raises:
        IfllmError: no token or permission; the change breaks readers; the tag is taken; somebody else committed since
            the plan was made; the Hub failed. The branch is then at the old or the new version; plan and publish
            again to finish.
    """
    if plan.breaking and not allow_breaking:
        told = f"{plan.repo_id}: {plan.breaking[0]}: this breaks code that reads the published version."
        raise IfllmError(f"{told} Choose another branch or repo, or insist with --allow-breaking.")
    if get_token() is None:
        raise IfllmError("No Hugging Face token: log in with `hf auth login`, or set HF_TOKEN to one that may write.")
    api = HfApi()
    with clear_hub_errors(plan.repo_id):
        squash_now = squash and bool(plan.operations or history(api, plan.repo_id, plan.revision)[1:])
        tag = _tag_to_set(plan, tag, squash_now) if versioned else None
        operations = [
            CommitOperationAdd(name, plan.folder / name) if name in plan.files else CommitOperationDelete(name)
            for name in plan.operations
        ]
        if plan.head is None:
            api.create_repo(plan.repo_id, repo_type="dataset", private=private)
        info = api.dataset_info(plan.repo_id)
        if private and not info.private:
            raise IfllmError(f"{plan.repo_id}: is public. Make it private in its settings, or leave --private out.")
        if plan.gated and not info.gated:  # before any data is there
            api.update_repo_settings(plan.repo_id, repo_type="dataset", gated="manual")
        head = plan.head or str(info.sha)
        if plan.new_branch:
            api.create_branch(plan.repo_id, repo_type="dataset", branch=plan.revision, revision=head, exist_ok=True)
        if operations:
            head = api.create_commit(
                plan.repo_id,
                operations,
                repo_type="dataset",
                revision=plan.revision,
                parent_commit=head,
                commit_message=f"Publish with ifllm_hub {__version__}",
                commit_description=str(plan),
            ).oid
            there = repo_files(api, plan.repo_id, head)
            for name in {*filter(DATASET.has, there), *plan.files}:
                if not _same(there.get(name), plan.files.get(name)):
                    raise IfllmError(f"{plan.repo_id}: {name} on the Hub differs from the folder's. Run it again.")
        if squash_now:
            head = forget_history(api, plan.repo_id, plan.revision)
        if tag:
            api.create_tag(plan.repo_id, repo_type="dataset", tag=tag, revision=head)
        if squash:
            forget_versions(api, plan.repo_id)
    return head, tag


def repo_files(api: HfApi, repo_id: str, commit: str) -> dict[str, RepoFile]:
    """Files of a dataset repo at a commit or branch, by path, except those whose names begin with a dot.

    Raises what `HfApi.list_repo_tree` raises.
    """
    entries = api.list_repo_tree(repo_id, repo_type="dataset", revision=commit, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile) and not _is_hidden(entry.path)}


def _check_folder(folder: Path) -> Contents:
    """The content of `contents.json`, after checking that the card and every Parquet file agree with it.

    Whoever publishes should have seen the privacy report: it is not made here, but by a command of its own.
    """
    if (folder / MANIFEST).is_file() and is_unreported(folder):
        raise unreported(folder)
    for name in (MANIFEST, "README.md"):
        if not (folder / name).is_file():
            raise IfllmError(f"{folder}: not a dataset folder (no {name}). Make one with `ifllm build`.")
    contents = read_contents(folder / CONTENTS, f"{folder / CONTENTS}")
    if _read_card(folder / "README.md").get("configs") != card_configs(contents):
        raise IfllmError(f"{folder}/README.md: its `configs` are not those of {CONTENTS}. Build the dataset again.")
    for config, entry in contents.items():
        for split, said in entry["rows"].items():
            pattern = f"data/{config}/{split}-*.parquet"
            rows = sum(_rows(path, entry["columns"]) for path in sorted(folder.glob(pattern)))
            if rows != said:
                raise IfllmError(
                    f"{folder / pattern}: {rows} rows, but {CONTENTS} says {said}. Build the dataset again."
                )
    return contents


def _read_card(card: Path) -> dict[str, Any]:
    """The card's YAML header."""
    try:
        return DatasetCard.load(card, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise IfllmError(
            f"{card}: its YAML header cannot be read ({first_line(error)}). Write it again with `ifllm build`."
        ) from error


def _rows(path: Path, columns: dict[str, str]) -> int:
    """Every page is decoded, so that damage anywhere is found."""
    if not path.is_file():  # opening a named pipe would wait forever
        raise IfllmError(f"{path}: is not a file. Build the dataset again.")
    try:
        with pq.ParquetFile(path) as file:
            same = types_of(file.schema_arrow) == columns
            rows = sum(batch.num_rows for batch in file.iter_batches())
    except (pa.ArrowException, OSError) as error:
        raise IfllmError(f"{path}: is not readable Parquet ({error}). Build the dataset again.") from error
    if not same:
        raise IfllmError(f"{path}: its columns are not those in {CONTENTS}. Build the dataset again.")
    return rows


def _hashes(path: Path) -> Hashes:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256")
        head = b"blob %d\0" % file.tell()
        file.seek(0)
        git = hashlib.file_digest(file, lambda: hashlib.sha1(head))
    return Hashes(git.hexdigest(), sha256.hexdigest())


def _is_hidden(name: str) -> bool:
    """Names that begin with a dot, such as the Hub's own .gitattributes, are neither sent nor deleted."""
    return any(part.startswith(".") for part in name.split("/"))


def _same(there: RepoFile | None, here: Hashes | None) -> bool:
    if not there or not here:
        return False
    return there.lfs.sha256 == here.sha256 if there.lfs else there.blob_id == here.git


def _references(api: HfApi, repo_id: str, revision: str) -> tuple[str | None, bool, dict[str, str]]:
    """The commit to compare with, whether the branch must be made, and the tags."""
    if repo_id.count("/") != 1:
        raise IfllmError(f"{repo_id}: not a Hub repo id (owner/name).")
    try:
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
    except RepositoryNotFoundError:
        for other in ("model", "space"):
            if api.repo_exists(repo_id, repo_type=other):
                raise IfllmError(f"{repo_id}: is a {other} on the Hub, not a dataset. Choose another name.") from None
        return None, revision != "main", {}
    branches = {branch.name: branch.target_commit for branch in refs.branches}
    tags = {tag.name: tag.target_commit for tag in refs.tags}
    return branches.get(revision, branches["main"]), revision not in branches, tags


def _compare(before: Contents, after: Contents) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Differences in rows and columns, and those of them that break readers."""
    shared = set(before) & set(after)
    was, now = _shape(before, shared), _shape(after, shared)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    lines = {name: f"{name}: {was.get(name, 'none')} -> {now.get(name, 'none')}" for name in names}
    breaking = (lines[name] for name in names if name in was and ("." in name or name not in now))
    return tuple(lines.values()), tuple(breaking)


def _shape(contents: Contents, shared: set[str]) -> dict[str, str]:
    """`config split` -> rows, and `config.column` -> type for the configs that both versions have."""
    shape: dict[str, str] = {}
    for config, entry in contents.items():
        shape |= {f"{config} {split}": f"{rows:,} rows" for split, rows in entry["rows"].items()}
        if config in shared:
            shape |= {f"{config}.{name}": type_ for name, type_ in entry["columns"].items()}
    return shape


def _tag_to_set(plan: Plan, tag: str | None, new_commit: bool) -> str | None:
    """The tag to set; None if the content already has one, which it keeps."""
    of_this = [name for name, at in plan.tags.items() if at == plan.head and not (plan.operations or new_commit)]
    if tag is None:
        versions = {name: int(name[1:]) for name in plan.tags if re.fullmatch(r"v\d+", name)}
        needless = plan.revision != "main" or versions.keys() & set(of_this)
        return None if needless else f"v{max(versions.values(), default=0) + 1}"
    if tag in plan.tags and tag not in of_this:
        raise IfllmError(f"{plan.repo_id}: the tag '{tag}' already points to another version. Choose another --tag.")
    return None if tag in of_this else tag
