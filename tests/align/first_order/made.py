"""Pairs and gradients of the tiny policy."""

from typing import Any

from datasets import Dataset

from ifllm_hub.align.policies import SAMPLE


def pairs(count: int = 20) -> Dataset:
    """Pairs of answers cut out of the sample text, of different lengths."""
    words = SAMPLE.split()

    def said(role: str, start: int, length: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(words[start : start + length])}]

    return Dataset.from_list(
        [
            {
                "question_id": number,
                "prompt": said("user", 3 * number, 5),
                "left": said("assistant", 7 * number, 6 + number % 5),
                "right": said("assistant", 5 * number + 90, 4 + number % 7),
            }
            for number in range(count)
        ]
    )


def preference_rows(rows: Dataset, signs: Any) -> Dataset:
    """The same pairs in TRL's format, labeled by these signs."""
    chosen = [("left", "right") if sign > 0 else ("right", "left") for sign in signs]
    return Dataset.from_list(
        [
            {"prompt": row["prompt"], "chosen": row[best], "rejected": row[worst], "flip_prob": 0.0}
            for row, (best, worst) in zip(rows, chosen, strict=True)
        ]
    )
