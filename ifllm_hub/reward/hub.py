"""Reward models on the Hub: fetched by id and revision, pushed in one commit."""

from pathlib import Path

from ifllm_hub import __version__
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.forest import FOREST_FILE
from ifllm_hub.reward.persistence import CONFIG_FILE, LEADERBOARD_FILE, MODEL_FILE, load_forest, load_model

CARD_FILE = "README.md"
_FILES = (MODEL_FILE, FOREST_FILE, CONFIG_FILE, LEADERBOARD_FILE, CARD_FILE)


def fetch_reward(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a reward model, with what scoring needs.

    Args:
        model: a model folder, or a Hub model id (owner/name).
        revision: branch, tag or commit of a Hub model.

    Raises:
        IfllmError: there is no such folder, or the model cannot be fetched.
    """
    import httpx2
    from huggingface_hub import snapshot_download

    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise IfllmError(f"{model}: is a folder and has no revision {revision!r}. Leave the revision out.")
        return folder
    if isinstance(model, Path) or model.count("/") != 1:
        raise IfllmError(f"{model}: no such reward model folder. Train one: ifllm reward DATASET --out FOLDER.")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[CONFIG_FILE, FOREST_FILE]))
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise IfllmError(
            f"{model}: there is no such folder here, and it cannot be fetched from the Hub ({_line(error)}). Check the "
            "id, the revision, the network and `hf auth login`."
        ) from error


def push_reward(folder: Path, repo_id: str, private: bool = False) -> str:
    """Push a model folder in one commit, after the audit that loading makes; unchanged content makes no commit.

    Args:
        repo_id: owner/name of a model repo, made where there is none.
        private: make a new repo private.

    Returns:
        The commit that `main` is at.

    Raises:
        IfllmError: the folder is not a sound reward model, no token may write there, or the Hub failed.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi

    load_model(folder)
    load_forest(folder)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise IfllmError(f"{folder / missing[0]}: not there. Train the model again: ifllm reward DATASET --out FOLDER.")
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(
            api.create_commit(
                repo_id,
                [CommitOperationAdd(name, folder / name) for name in _FILES],
                commit_message=f"Push with ifllm_hub {__version__}",
            ).oid
        )
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise IfllmError(
            f"{repo_id}: cannot be pushed ({_line(error)}). Log in with `hf auth login`, check that the token may "
            "write there, and run it again."
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
