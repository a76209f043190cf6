"""A finished run folder on the Hub: its name there, which files are pushed, and what they may replace."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from ifllm_hub.align.policies import BASE_MODELS, SMOLLM2, TINY
from ifllm_hub.align.runs.launch import LOG, PROGRESS
from ifllm_hub.align.runs.results import RESULTS
from ifllm_hub.align.runs.resume import SETUP
from ifllm_hub.align.runs.saving import SAVING
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json
from ifllm_hub.hub import Kind, claim_repo, commit_files, files_to_push

logger = logging.getLogger(__name__)

_WEIGHTS = ("config.json", "generation_config.json", "model.safetensors", "model-*.safetensors")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "additional_chat_templates/*.jinja"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model-*.safetensors", *_TOKENIZER)


def _is_checkpoint(results: Any) -> bool:
    versions = results.get("versions") if isinstance(results, dict) else None
    return isinstance(versions, dict) and "ifllm_hub" in versions and "stage" in results


CHECKPOINT = Kind(
    "checkpoint",
    "model",
    files=(
        *_WEIGHTS,
        "model.safetensors.index.json",
        *_TOKENIZER,
        *(f"adapter/{name}" for name in _ADAPTER),
        *(RESULTS, "README.md", "trainer_state.json", ".eval_results/ifllm_judged.yaml"),
    ),
    sign=RESULTS,
    is_ours=_is_checkpoint,
    insist="--force_push true",
    # Checkpoints hold optimizer states; the .bin file is a pickle of the arguments; `.NAME.NUMBER` is a partial file
    # that a killed run left.
    scratch=("checkpoint-*", SAVING, ".*.[0-9]*", "training_args.bin", LOG, PROGRESS, SETUP),
)


def model_name(model: str) -> str | None:
    """The part of a name that stands for a model; None for a folder that does not say which model it was made from.

    Args:
        model: as for `load_policy`, or a text model: one of this package's names, a folder or a Hub id.
    """
    if model in (TINY, SMOLLM2, *BASE_MODELS) or not os.path.isdir(model):
        return model.replace("/", "-")
    return result_of(model, "llm")


def checkpoint_name(stage: str, setup: dict[str, Any]) -> str:
    """The name of a checkpoint: its model, stage and label source, such as `qwen3-1.7b-dpo-forest`.

    Args:
        stage: of the run.
        setup: what is known of it: `llm`, `model`, `label_source`; `quirks`, `form`, `reward_model` where it has them.
    """
    stage += "-reference" if setup.get("quirks") else ""
    form = setup.get("form", "bradley_terry")
    parts = [
        setup["llm"] or _last_name(setup["model"]),
        stage,
        *([] if form == "bradley_terry" else [form]),
        setup.get("reward_model") or setup["label_source"],
    ]
    name = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts))
    return re.sub(r"\.{2,}", ".", name).strip("-.")


def shown_model(model: str) -> str:
    """A model's name for a card: that in a folder's `results.json`, else the folder's own, else the Hub id."""
    if not os.path.isdir(model):
        return model
    return result_of(model, "name") or _last_name(model)


def _last_name(path: str) -> str:
    return os.path.basename(os.path.abspath(path))  # also of "."


def result_of(folder: str, key: str) -> str | None:
    """An entry of the `results.json` in a run's folder; None without one."""
    file = Path(folder) / RESULTS
    results = read_json(file) if file.is_file() else {}
    return results.get(key) if isinstance(results, dict) else None


def without_paths(value: Any) -> Any:
    """The value with each local path, at any depth, reduced to its last name: the rest means nothing elsewhere."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner) for inner in value]
    if isinstance(value, str) and (os.path.isabs(value) or os.path.isdir(value)):
        return _last_name(value)
    return value


def claim_target(config: Any, setup: dict[str, Any], name: str, force: bool) -> str:
    """Check or create the repo to push to, before hours go into training.

    Args:
        config: with `hub_model_id` (default: `name`), `hub_token`, `hub_private_repo`.
        setup: see `checkpoint_name`.

    Returns:
        The id of the repo, owner/name.

    Raises:
        IfllmError: it has no name, holds something that this package did not make, or cannot be created or written.
    """
    if config.hub_model_id is None and setup["llm"] is None:
        raise IfllmError(
            f"{setup['model']}: has no {RESULTS} that says which model it was made from, so the repo to push to cannot "
            f"be named after it. Name the repo with --hub_model_id."
        )
    repo_id = claim_repo(config.hub_model_id or name, CHECKPOINT, config.hub_private_repo, force, config.hub_token)
    logger.info("The checkpoint will be pushed to %s.", repo_id)
    return repo_id


def push(config: Any, output_dir: Path, repo_id: str, force: bool) -> str:
    """Upload the finished folder in one commit; see `commit_files`.

    After a push that was interrupted, start the same run again: its steps are done, so it only pushes.

    Returns:
        The commit that `main` is at; unchanged content makes no new one.

    Raises:
        IfllmError: the Hub refuses or fails; the run is complete nevertheless, and a second start pushes it.
    """
    try:
        return commit_files(
            files_to_push(output_dir, CHECKPOINT), repo_id, CHECKPOINT, config.hub_private_repo, force, config.hub_token
        )
    except IfllmError as error:
        raise IfllmError(
            f"The run is complete in {output_dir}, but not pushed: {error} Start it again to push it."
        ) from error
