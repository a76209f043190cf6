"""What a policy prefers: the implicit reward of DPO on pairs held out from it.

A policy and its reference define the reward beta * log(policy(y) / reference(y)) of an answer y, up to a constant of the
prompt (https://huggingface.co/papers/2305.18290, equation 5). The policy prefers the answer with the larger one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

Advance = Callable[[float], None]


def answer_log_probs(
    model: Any,
    tokenizer: Any,
    pairs: "Dataset",
    max_length: int,
    batch_size: int = 8,
    advance: Advance = lambda _: None,
) -> np.ndarray:
    """Log-probabilities of the answers of pairs under a policy, summed over their tokens.

    Prompt and answer are tokenised together, with the policy's chat template, and cut at the end, as TRL's `DPOTrainer`
    does: an answer begins where the tokens of prompt and conversation part.

    Args:
        model: a causal language model, on its device.
        pairs: with conversational `prompt`, `chosen`, `rejected`.
        max_length: tokens of prompt and answer together.

    Returns:
        (pairs, 2) float64, nats: of the chosen and of the rejected answers. 0 where `max_length` leaves no token of one.
    """
    import torch

    sequences = [_tokens(tokenizer, row["prompt"], row[side], max_length) for row in pairs for side in SIDES]
    # Of equal length in a batch, so that little is spent on padding.
    order = sorted(range(len(sequences)), key=lambda at: len(sequences[at][0]))
    sums = np.zeros(len(sequences))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(sequences[at][0]) for at in batch)
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
        is_answer = torch.zeros(len(batch), longest, dtype=torch.bool)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, at in enumerate(batch):
            tokens, prompt = sequences[at]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            is_answer[row, prompt : len(tokens)] = True
        ids, mask, is_answer = ids.to(model.device), mask.to(model.device), is_answer.to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            chosen = logits.gather(2, ids[:, 1:, None]).squeeze(2) - logits.logsumexp(2)
        sums[batch] = (chosen * is_answer[:, 1:]).sum(1).double().cpu().numpy()
        advance(min(1.0, (start + batch_size) / len(order)))
    return sums.reshape(-1, 2)


SIDES = ("chosen", "rejected")


def margins(policy: np.ndarray, reference: np.ndarray, beta: float) -> np.ndarray:
    """(pairs,) reward of the chosen less that of the rejected answer, nats.

    Args:
        policy: (pairs, 2) as of `answer_log_probs`.
        reference: the same of the reference model.
    """
    ratios = policy - reference
    return beta * (ratios[:, 0] - ratios[:, 1])


def _tokens(tokenizer: Any, prompt: Any, answer: Any, max_length: int) -> tuple[list[int], int]:
    """The tokens of a conversation, and how many of them are the prompt's."""
    head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]
    shared = next(
        (at for at, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), min(len(head), len(whole))
    )
    return whole[:max_length], min(shared, max_length)
