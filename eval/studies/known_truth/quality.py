"""How good any text is in the simulated world: the utility that is expected of an answer with these words.

The simulator draws a quality q, writes each sentence as a definite one with probability S(0.2 + 1.2 q), S the logistic
function, or else as filler, and adds 1.05 log(length / 600) (`ifllm_hub/sources/simulation/text.py`). Of a text with k
definite ones among n sentences, the posterior mean of q under that model and the simulator's own distribution of q is
all that its sentences say of its quality. No answer of a policy can deceive it about more than this:

- a sentence is definite if it is, word for word, one that the grammar can write about the topic that was asked about;
- a sentence that stands there for the second time, or that the grammar cannot write, counts as filler.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import xlog1py, xlogy

from ifllm_hub.sources.simulation import text as grammar
from ifllm_hub.sources.simulation.people import MODELS, QUALITY_SD, length_utility

_QUALITIES = np.linspace(-4, 4, 401)
_MARKUP = re.compile(r"(?m)^## About .*$|^### .*$|^- .?.?\*\*[^*\n]*\*\*: ?")


@dataclass(frozen=True)
class Sentences:
    """How many sentences of a text are of each kind; what breaks off at its end is not counted.

    Attributes:
        definite, filler: that the grammar can write about the topic, each counted once.
        again: that stood there before.
        other: that the grammar cannot write.
    """

    definite: int
    filler: int
    again: int
    other: int

    @property
    def all(self) -> int:
        return self.definite + self.filler + self.again + self.other


def sentences(text: str, topic: grammar.Topic) -> Sentences:
    """Count the sentences of an answer about a topic."""
    body = _MARKUP.sub("", text)
    found = [(match.lastgroup, match.group()) for match in _patterns(topic).finditer(body)]
    kinds = [kind for kind, _ in set(found)]
    rest = _patterns(topic).sub("", body)
    return Sentences(kinds.count("definite"), kinds.count("filler"), len(found) - len(kinds), rest.count("."))


def expected_quality(definite: np.ndarray, all_sentences: np.ndarray) -> np.ndarray:
    """Posterior mean of q, in standard normal units, by the numbers of sentences; same shape."""
    k, n = definite[..., None], all_sentences[..., None]
    share = grammar.definite_share(_QUALITIES)
    means = np.array(list(MODELS.values()))
    prior = np.exp(-(((_QUALITIES - means[:, None]) / QUALITY_SD) ** 2) / 2).sum(axis=0)
    fit = xlogy(k, share) + xlog1py(n - k, -share)
    weight = prior * np.exp(fit - fit.max(axis=-1, keepdims=True))
    return np.asarray((weight * _QUALITIES).sum(axis=-1) / weight.sum(axis=-1))


@dataclass(frozen=True)
class Judged:
    """Answers under the true judge, each (answers,).

    Attributes:
        quality: posterior mean of q.
        utility: with the length's part.
        definite: share of sentences that are definite, and new.
        other: share of sentences that the grammar cannot write, or that stood there before.
        length: code points.
    """

    quality: np.ndarray
    utility: np.ndarray
    definite: np.ndarray
    other: np.ndarray
    length: np.ndarray


def judge(texts: list[str], topics: list[grammar.Topic]) -> Judged:
    """Judge each answer by its words, and the topic that it was asked about; an empty one has the length of 1."""
    counts = [sentences(text, topic) for text, topic in zip(texts, topics, strict=True)]
    definite, every = (np.array([getattr(count, name) for count in counts]) for name in ("definite", "all"))
    bad = np.array([count.again + count.other for count in counts])
    quality = expected_quality(definite, every)
    some = np.maximum(every, 1)
    return Judged(
        quality,
        quality + np.array([length_utility(text or " ") for text in texts]),
        definite / some,
        bad / some,
        np.array([len(text) for text in texts]),
    )


@cache
def _patterns(topic: grammar.Topic) -> re.Pattern[str]:
    slots = {
        "topic": (topic.name,),
        "part": topic.parts,
        "other": topic.parts,
        "act": topic.acts,
        "reason": topic.reasons,
        "adj": grammar.ADJECTIVES,
        "adj2": grammar.ADJECTIVES,
        "adverb": grammar.ADVERBS,
    }
    choices = {name: f"(?:{'|'.join(map(re.escape, words))})" for name, words in slots.items()}
    choices |= {"n": r"\d{1,2}", "percent": r"\d{1,2}"}
    kinds = {"definite": grammar.DEFINITE, "filler": grammar.FILLER}
    groups = []
    for kind, templates in kinds.items():
        # Escaped with its slots left as they are, then filled in.
        escaped = [re.sub(r"\\\{(\w+)\\\}", r"{\1}", re.escape(template)) for template in templates]
        groups.append(f"(?P<{kind}>{'|'.join(template.format(**choices) for template in escaped)})")
    return re.compile("|".join(groups))
