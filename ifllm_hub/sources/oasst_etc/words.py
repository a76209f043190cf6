"""Words that were read off a screenshot -> where they are in the answer's text.

The words are in reading order, but characters are misread, quotes and dashes are others, words are lost, added, run
together or torn apart. Of all alignments that keep the order, the one is taken whose words are the most alike, by the
letters and pairs of letters that they share; so a word that was misread is found by what is left of it.
"""

import re
import unicodedata

import numpy as np

# More words than fit on a screen.
MOST_WORDS = 2_000
# Two words that share less than this part of their letters and pairs of letters (Dice's coefficient) are not the same,
# in percent.
_ALIKE = 35
_WORD = re.compile(r"\S+")
_SAME = str.maketrans("‘’‚`´′“”„″«»–—−‒…", "''''''\"\"\"\"\"\"----.")
# How many words of the screen and of the text are one: a word, two run together, or one torn apart.
_STEPS = ((1, 1), (1, 2), (2, 1))


def locate_words(words: list[str], text: str) -> list[int]:
    """Where words are in a text, in code points.

    Args:
        words: in reading order, at most `MOST_WORDS`.
        text: what was shown.

    Returns:
        For each word, the middle of it in the text, or -1 if it is not there. Where a word was torn apart, each part
        has its own place in it. Places grow with the words.

    Examples:
        >>> from ifllm_hub.sources.oasst_etc.words import locate_words
        >>> locate_words(["It’5", "in", "lndia,", "not", "inCbile."], "It's in India, and not in Chile.")
        [2, 6, 11, 20, 27]
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    places = [-1] * len(words)
    for first, step, begin, tokens in _aligned(words, [text[start:end] for start, end in spans]):
        start, end = spans[begin][0], spans[begin + tokens - 1][1]
        parts = np.cumsum([0, *(max(len(word), 1) for word in words[first : first + step])])
        middles = start + (parts[:-1] + parts[1:]) * (end - start) / (2 * parts[-1])
        for word, middle in enumerate(middles, first):
            places[word] = min(int(middle), end - 1)
    return places


def _aligned(words: list[str], tokens: list[str]) -> list[tuple[int, int, int, int]]:
    """The pairs of the best alignment in their order: a word, how many, a token of the text, and how many."""
    scores = {step: _scores(_joined(words, step[0]), _joined(tokens, step[1])) for step in _STEPS}
    n, m = len(words), len(tokens)
    best = np.zeros((n + 1, m + 1), np.int64)
    for i in range(1, n + 1):
        row = best[i - 1].copy()
        for (up, along), score in scores.items():
            if up <= i and along <= m:
                row[along:] = np.maximum(row[along:], best[i - up, : m + 1 - along] + score[i - up])
        best[i] = np.maximum.accumulate(row)
    pairs = []
    i, j = n, m
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            up, along = next(
                (up, along)
                for (up, along), score in scores.items()
                if up <= i and along <= j and best[i, j] == best[i - up, j - along] + score[i - up, j - along]
            )
            i, j = i - up, j - along
            pairs.append((i, up, j, along))
    return pairs[::-1]


def _joined(words: list[str], n: int) -> list[str]:
    """Runs of `n` words without the spaces between them."""
    return ["".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def _scores(words: list[str], tokens: list[str]) -> np.ndarray:
    """(words, tokens) how much more than `_ALIKE` two have in common; the longer they are, the more."""
    ours, theirs = [_features(word) for word in words], [_features(token) for token in tokens]
    number = {feature: i for i, feature in enumerate(sorted(frozenset().union(*ours) & frozenset().union(*theirs)))}
    shared = _indicators(ours, number) @ _indicators(theirs, number).T
    sizes = np.array([len(word) for word in ours])[:, None] + np.array([len(token) for token in theirs])[None, :]
    return 200 * shared.astype(np.int64) - _ALIKE * sizes


def _features(word: str) -> frozenset[str]:
    """The letters of a word and its pairs of letters, those at its ends with the space there."""
    plain = unicodedata.normalize("NFKC", word).translate(_SAME).casefold()[:200]
    between = f" {plain} "
    return frozenset(plain) | {between[i : i + 2] for i in range(len(between) - 1)}


def _indicators(sets: list[frozenset[str]], number: dict[str, int]) -> np.ndarray:
    held = np.zeros((len(sets), len(number)), np.float32)
    for i, features in enumerate(sets):
        held[i, [number[feature] for feature in features if feature in number]] = 1
    return held
