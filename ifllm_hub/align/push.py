"""A finished run folder to the Hub, in one commit."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ifllm_hub import __version__
from ifllm_hub.align.launch import PROGRESS
from ifllm_hub.align.resume import SETUP
from ifllm_hub.align.saving import SAVING
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import clear_hub_errors

# Checkpoints hold optimizer states; the .bin file is a pickle of the arguments; `.NAME.NUMBER` is half a file that a
# killed run left.
STAYS_HERE = ["checkpoint-*/*", f"{SAVING}/*", ".*.[0-9]*", "*.bin", "*.log", PROGRESS, SETUP]


def create_repo(config: Any, output_dir: Path) -> str:
    """Make sure of the right to push before hours go into training.

    Args:
        config: with `hub_model_id` (default: the name of the folder), `hub_token`, `hub_private_repo`.

    Returns:
        The id of the repo, owner/name.

    Raises:
        IfllmError: the repo cannot be created.
    """
    from huggingface_hub import HfApi

    name = config.hub_model_id or output_dir.name
    with clear_hub_errors(name):
        repo = HfApi(token=config.hub_token).create_repo(name, private=config.hub_private_repo, exist_ok=True)
    return str(repo.repo_id)


def push(config: Any, output_dir: Path, repo_id: str) -> str:
    """Upload the finished folder in one commit, so that a reader finds all of it or nothing of it.

    Files that are there from an earlier push and are no longer in the folder, such as an adapter, are deleted. A push
    that was killed is done again by starting the same run again: its steps are done, only the push is missing.

    Returns:
        The commit that `main` is at; unchanged content makes none.

    Raises:
        IfllmError: the Hub refuses or fails; the run is complete then, and a second start pushes it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    names = [path.relative_to(output_dir).as_posix() for path in sorted(output_dir.rglob("*")) if path.is_file()]
    pushed = [name for name in names if not any(fnmatch(name, pattern) for pattern in STAYS_HERE)]
    api = HfApi(token=config.hub_token)
    try:
        with clear_hub_errors(repo_id):
            gone = set(api.list_repo_files(repo_id)) - {*pushed, ".gitattributes"}
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(name, output_dir / name) for name in pushed),
                *(CommitOperationDelete(name) for name in sorted(gone)),
            ]
            return str(api.create_commit(repo_id, operations, commit_message=f"Push with ifllm_hub {__version__}").oid)
    except IfllmError as error:
        raise IfllmError(
            f"The run is complete in {output_dir}, but not pushed: {error} Start it again to push it."
        ) from error
