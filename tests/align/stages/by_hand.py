"""Robust DPO's loss from logits, pair by pair and without TRL."""

import math
from typing import Any

import torch

BETA = 0.1


def by_hand(
    rows: list[dict[str, Any]], policy: Any, reference: Any, tokenizer: Any, epsilon: float | None = None
) -> dict[str, float]:
    """Robust DPO with each pair's flip probability, or `epsilon`, + token-mean NLL, from logits, without TRL.

    Pairs are weighted by the inverse of their variance, as if trained on pairs with the same flip probabilities.
    """

    def log_probs(model: Any, row: dict[str, Any], answer: str) -> torch.Tensor:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row[answer])["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return torch.stack([logits[at - 1, whole[at]] for at in range(len(prompt), len(whole))])

    margins, nlls = [], []
    for row in rows:
        chosen, rejected = (
            log_probs(policy, row, answer).sum() - log_probs(reference, row, answer).sum()
            for answer in ("chosen", "rejected")
        )
        margins.append(BETA * (chosen - rejected).item())
        nlls.append(-log_probs(policy, row, "chosen").mean().item())

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    flips = [row["flip_prob"] if epsilon is None else epsilon for row in rows]
    precision = sum((1 - 2 * e) ** 2 for e in flips) / len(flips)
    robust = [
        (1 - 2 * e) ** 2 / precision * (-(1 - e) * math.log(sigmoid(m)) + e * math.log(sigmoid(-m))) / (1 - 2 * e)
        for m, e in zip(margins, flips, strict=True)
    ]
    return {
        "loss": (sum(robust) + sum(nlls)) / len(rows),
        "nll": sum(nlls) / len(nlls),
        "rewards/margins": sum(margins) / len(margins),
        "rewards/accuracies": sum(m > 0 for m in margins) / len(margins),
    }
