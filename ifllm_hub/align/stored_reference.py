"""What a reference model says of each answer: asked once on this machine, and read by every later run.

Label sources, splits and swapped labels ask about the same answers, one by one. So a file belongs to a reference model,
and holds one number an answer, whatever the pairs. Which tokens an answer has, how it was cut, and which prompt comes
before it are in its key.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ifllm_hub.align.runs.run import copies_folder, damaged_copy
from ifllm_hub.files import read_parquet, write_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class StoredReference:
    """A file of the cache with the columns `answer` (see `answer_keys`) and `log_prob`, nats.

    Attributes:
        file: Parquet; it need not exist yet.
    """

    file: Path

    def log_probs(self, answers: np.ndarray, ask: Callable[[list[int]], np.ndarray]) -> np.ndarray:
        """Look up the answers of pairs; ask about those that are missing, and add them to the file.

        Other processes wait for it meanwhile: they would ask the same.

        Args:
            answers: (pairs, 2) keys.
            ask: the log-probabilities, (rows, 2), of the pairs with these row numbers; not called if none is missing.

        Returns:
            (pairs, 2) float32, nats.

        Raises:
            IfllmError: the file is damaged, or cannot be written.
        """
        from filelock import FileLock

        with FileLock(f"{self.file}.lock"):
            known = self._read()
            missing = [row for row, pair in enumerate(answers) if not known.keys() >= set(pair)]
            if missing:
                known |= zip(answers[missing].flat, ask(missing).flat, strict=True)
                table = pl.DataFrame({"answer": list(known), "log_prob": np.array(list(known.values()), np.float32)})
                write_parquet(self.file, table)
        return np.array([[known[answer] for answer in pair] for pair in answers], np.float32)

    def _read(self) -> dict[str, float]:
        if not self.file.is_file():
            return {}
        try:
            return dict(read_parquet(self.file).rows())
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise damaged_copy(self.file, error) from error


def reference_file(policy: "PreTrainedModel", config: Any) -> StoredReference:
    """The file of a policy as a reference: of its weights and configuration, and of how they are computed with.

    Args:
        policy: with whole weights, before an adapter is added.
        config: of the trainer: its device, and the precision of its matrix products.

    Raises:
        IfllmError: the cache cannot be written.
    """
    from trl.trainer.utils import hash_module

    computed = {
        "configuration": {name: value for name, value in policy.config.to_dict().items() if name != "_name_or_path"},
        "device": config.device.type,
        "autocast": [config.bf16, config.fp16],
    }
    described = hash_module(policy) + json.dumps(computed, sort_keys=True, default=str)
    return StoredReference(copies_folder() / f"reference-{hashlib.sha256(described.encode()).hexdigest()[:16]}.parquet")


def answer_keys(batch: dict[str, Any]) -> list[str]:
    """SHA-256 (hexadecimal) of the tokens of each sequence and of which of them are the answer's, without the padding.

    Args:
        batch: `input_ids`, `attention_mask`, `completion_mask`, each (sequences, longest), from TRL's collator.
    """
    keys = []
    for ids, mask, is_answer in zip(
        batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"], strict=True
    ):
        read = np.stack([ids[mask].numpy(), is_answer[mask].numpy()]).astype(np.int64)
        keys.append(hashlib.sha256(read.tobytes()).hexdigest())
    return keys
