"""What a policy prefers: the implicit reward of DPO on pairs held out from it.

A policy and its reference define the reward beta * log(policy(y) / reference(y)) of an answer y, up to a constant that
depends on the prompt alone (https://huggingface.co/papers/2305.18290, equation 5). The policy prefers the answer with
the larger reward.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


def answer_log_probs(model: Any, tokenizer: Any, pairs: "Dataset", max_length: int, batch_size: int = 8) -> np.ndarray:
    """Log-probabilities of the answers of pairs under a policy, summed over their tokens.

    Prompt and answer are tokenized together, with the policy's chat template, and cut at the end, as TRL's `DPOTrainer`
    does: an answer begins at the first token in which prompt and whole conversation differ.

    Args:
        model: a causal language model, on its device.
        pairs: with conversational `prompt`, `chosen`, `rejected`.
        max_length: tokens of prompt and answer together.

    Returns:
        (pairs, 2) float64, nats: of the chosen and the rejected answer; 0 where `max_length` leaves no token of it.
    """
    import torch

    sides = ("chosen", "rejected")
    sequences = [answer_tokens(tokenizer, row["prompt"], row[side], max_length) for row in pairs for side in sides]
    # Sorted by length, so that batches need little padding.
    order = sorted(range(len(sequences)), key=lambda at: len(sequences[at][0]))
    sums = np.zeros(len(sequences))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, mask, is_answer = (part.to(model.device) for part in _padded([sequences[at] for at in batch], tokenizer))
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            said = logits.gather(2, ids[:, 1:, None]).squeeze(2) - logits.logsumexp(2)
        sums[batch] = (said * is_answer[:, 1:]).sum(1).cpu().double().numpy()
    return sums.reshape(-1, 2)


def answer_tokens(tokenizer: Any, prompt: Any, answer: Any, max_length: int) -> tuple[list[int], int]:
    """The tokens of a conversation, cut at `max_length`, and the index at which the answer begins."""
    from trl.data_utils import common_prefix_length

    head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(prompt + answer, return_dict=True)["input_ids"]
    return whole[:max_length], min(common_prefix_length(head, whole), max_length)


def _padded(sequences: list[tuple[list[int], int]], tokenizer: Any) -> tuple[Any, Any, Any]:
    """Token ids padded on the right, the attention mask, and where the answers are; each (sequences, longest)."""
    import torch

    shape = (len(sequences), max(len(tokens) for tokens, _ in sequences))
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask, is_answer = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for row, (tokens, prompt) in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        is_answer[row, prompt : len(tokens)] = True
    return ids, mask, is_answer
