"""Exactly which weights a model name means, so that an answer can be told from that of other weights."""

import hashlib
import json
from pathlib import Path

from ifllm_hub.align.policies import BASE_MODELS, SMOLLM2, SMOLLM2_HUB_ID, TINY, policy_folder
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import clear_hub_errors

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def model_name(model: str) -> str:
    """What a table calls a model: a folder's name, the Hub id, or the name of the policy."""
    if model in BASE_MODELS:
        return BASE_MODELS[model].hub_id
    return Path(model).resolve().name if Path(model).is_dir() else model


def model_revision(model: str) -> str:
    """The Hub commit that `load_policy(model)` reads, or the SHA-256 (hexadecimal) over the weights in its folder.

    Weights in several files are hashed as the list of their names and hashes. Tokenizer and chat template are not part
    of it.

    Raises:
        IfllmError: the folder holds no weights; the Hub has no such model or cannot be reached.
    """
    if model == TINY:
        return "the random weights of seed 0"
    folder = policy_folder(model)
    if folder is not None:
        return _hash_of_weights(folder)
    from huggingface_hub import hf_hub_download

    hub_id = SMOLLM2_HUB_ID if model == SMOLLM2 else model_name(model)
    with clear_hub_errors(hub_id):
        # The file's place in the cache names the commit, online and offline.
        return Path(hf_hub_download(hub_id, "config.json")).parent.name


def _hash_of_weights(folder: Path) -> str:
    files = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)})
    if not files:
        raise IfllmError(f"{folder}: no weights in it ({', '.join(WEIGHTS)}). Give the folder of a saved model.")
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append([file.name, hashlib.file_digest(stream, "sha256").hexdigest()])
    return hashes[0][1] if len(files) == 1 else hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
