"""A small policy that writes the texts of the simulated world, and DPO on it: plain loops, one thread.

Its tokens are the pieces that the grammar puts together (`Phrases`), so that 100,000 parameters learn in a minute to
write as the simulator does. What DPO has to find is which pieces to prefer.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import Qwen2Config, Qwen2ForCausalLM

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.simulation import text as grammar

PAD, ANSWER, END = 0, 1, 2
# Tokens of a query and its answer together: 97 in 100 of the simulator's are shorter, the others are cut.
MAX_TOKENS = 256
BETA = 0.1
_MARKS = ("## About ", "### ", "The ", "- ", "**", "**: ", '"')


class Phrases:
    """Texts as the pieces of the grammar, the longest that fits first; what is in none of them, as code points.

    The words of a topic are its first part, its second part and so on, whatever the topic: the tokens are the same for
    all topics, and to read them takes the topic.
    """

    def __init__(self) -> None:
        templates = (*grammar.DEFINITE, *grammar.FILLER, *grammar.FIRST_QUERIES, *grammar.FOLLOW_UPS)
        common = {piece for template in templates for piece in re.split(r"\{\w+\}", template)}
        common |= {*grammar.ADJECTIVES, *grammar.ADVERBS, *_MARKS, *grammar.EMOJI, *map(str, range(2, 98))}
        of_topics = {topic: _words(topic) for topic in grammar.TOPICS}
        letters = {mark for words in (common, *of_topics.values()) for word in words for mark in word} | {"\n"}
        shared = sorted((common | letters) - {""})
        self._pieces = {topic: ["", "", "", *words, *shared] for topic, words in of_topics.items()}
        self._ids = {
            topic: {piece: number for number, piece in reversed(list(enumerate(pieces))) if piece}
            for topic, pieces in self._pieces.items()
        }
        self._any = {
            topic: re.compile("|".join(map(re.escape, sorted(ids, key=len, reverse=True))))
            for topic, ids in self._ids.items()
        }

    def __len__(self) -> int:
        return len(self._pieces[grammar.TOPICS[0]])

    def encode(self, text: str, topic: grammar.Topic) -> list[int]:
        """Tokens of a text.

        Raises:
            IfllmError: it has a code point that the grammar does not use.
        """
        found = self._any[topic].findall(text)
        if sum(map(len, found)) != len(text):
            raise IfllmError(f"Not a text of the simulator, with another topic or other marks: {text!a:.80}")
        return [self._ids[topic][piece] for piece in found]

    def decode(self, ids: Sequence[int], topic: grammar.Topic) -> str:
        return "".join(self._pieces[topic][number] for number in ids)

    def dialogue(self, query: str, answer: str, topic: grammar.Topic) -> tuple[list[int], int]:
        """Tokens of a query and an answer, cut at `MAX_TOKENS`, and where the answer begins."""
        head = [*self.encode(query, topic), ANSWER]
        return [*head, *self.encode(answer, topic), END][:MAX_TOKENS], len(head)


def _words(topic: grammar.Topic) -> list[str]:
    """The same number of each topic, in the same order."""
    return [topic.name, *topic.parts, *(part.capitalize() for part in topic.parts), *topic.acts, *topic.reasons]


Dialogue = tuple[list[int], int]


def new_policy(size: int, width: int, seed: int) -> Qwen2ForCausalLM:
    """A random Qwen2 of two layers."""
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2 * MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def learn_to_write(policy: Any, dialogues: list[Dialogue], passes: int, seed: int, rate: float = 3e-3) -> float:
    """Maximum likelihood of the answers, 8 a step; returns the mean loss of the last tenth of steps, nats a token."""
    batches = [batch for number in range(passes) for batch in _batches(dialogues, 8, seed + number)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, len(batches), pct_start=0.1)
    losses = []
    for batch in batches:
        loss = -_said(policy, [dialogues[at] for at in batch], mean=True)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def log_probs(policy: Any, dialogues: list[Dialogue]) -> torch.Tensor:
    """(dialogues,) log-probability of each answer, nats."""
    order = sorted(range(len(dialogues)), key=lambda at: len(dialogues[at][0]))
    found = torch.empty(len(dialogues))
    with torch.no_grad():
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            found[some] = _said(policy, [dialogues[at] for at in some])
    return found


def dpo(
    policy: Any,
    pairs: list[tuple[Dialogue, Dialogue]],
    reference: torch.Tensor,
    signs: np.ndarray,
    steps: int,
    seed: int,
    rate: float,
    batch: int = 8,
) -> Any:
    """A copy of the policy after DPO (https://huggingface.co/papers/2305.18290) with AdamW, without any other loss.

    Args:
        pairs: left and right answer.
        reference: (pairs,) log-probability of the left answer less that of the right one under `policy`.
        signs: (pairs,) 1 where left is chosen, -1 where right is, 0: no label.
        steps: of `batch` pairs, through the labeled pairs again and again, in a new order each time.
    """
    trained = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=rate, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    labeled = np.flatnonzero(signs)
    passes = -(-steps * batch // len(labeled))
    order = np.concatenate([rng.permutation(labeled) for _ in range(passes)])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * (1 - step / steps)
        some = order[step * batch : (step + 1) * batch]
        said = _said(trained, [pairs[at][side] for side in (0, 1) for at in some])
        margin = said[: len(some)] - said[len(some) :] - reference[some]
        loss = -logsigmoid(BETA * torch.from_numpy(signs[some].astype(np.float32)) * margin).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trained


def answers(policy: Any, phrases: Phrases, queries: list[str], topics: list[grammar.Topic], seed: int) -> list[str]:
    """One answer to each query, by sampling at temperature 1; the same seed gives all policies the same random numbers.

    An answer ends where the policy ends it, or at `MAX_TOKENS` of query and answer.
    """
    heads = [[*phrases.encode(query, topic), ANSWER] for query, topic in zip(queries, topics, strict=True)]
    longest = max(map(len, heads))
    tokens = torch.tensor([[PAD] * (longest - len(head)) + head for head in heads])
    mask = torch.tensor([[0] * (longest - len(head)) + [1] * len(head) for head in heads])
    uniform = torch.rand(MAX_TOKENS, len(heads), 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cache, written, running = None, [], torch.ones(len(heads), dtype=torch.bool)
    with torch.no_grad():
        for chance in uniform[longest:]:
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            output = policy(tokens, mask, places, cache, use_cache=True, logits_to_keep=1)
            cache = output.cache
            below = output.logits[:, -1].double().softmax(-1).cumsum(-1)
            found = torch.searchsorted(below, chance * below[:, -1:])[:, 0]
            written.append(torch.where(running, found, END))
            running &= written[-1] != END
            if not running.any():
                break
            tokens = written[-1][:, None]
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    ids = torch.stack(written, dim=1).tolist()
    return [phrases.decode(row, topic) for row, topic in zip(ids, topics, strict=True)]


def _said(policy: Any, dialogues: list[Dialogue], mean: bool = False) -> torch.Tensor:
    """(dialogues,) log-probability of each answer; or the mean over all their tokens."""
    longest = max(len(ids) for ids, _ in dialogues)
    tokens = torch.full((len(dialogues), longest), PAD)
    targets = torch.full((len(dialogues), longest), -100)
    for row, (ids, start) in enumerate(dialogues):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, start : len(ids)] = tokens[row, start : len(ids)]
    # Padding is on the right, where no token of an answer looks.
    logits = policy(input_ids=tokens[:, :-1], use_cache=False).logits
    loss = cross_entropy(logits.transpose(1, 2), targets[:, 1:], reduction="mean" if mean else "none")
    return -loss if mean else -loss.sum(dim=1)


def _batches(dialogues: list[Dialogue], size: int, seed: int) -> Iterator[list[int]]:
    """Answers of about the same length together, the batches in random order."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 20, len(dialogues))
    order = np.argsort([len(ids) for ids, _ in dialogues] + noise)
    parts = [order[start : start + size].tolist() for start in range(0, len(order), size)]
    for at in rng.permutation(len(parts)):
        yield parts[at]
