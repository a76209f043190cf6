"""Words that were read off a screen are found in the answer's text, whatever was misread."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ifllm_hub.sources.oasst_etc.words import MOST_WORDS, locate_words

TEXT = (
    "Use `rows()`, a method: ```python for row in table.rows(): print(row['A'], row[\"B\"]) ``` It’s slow — avoid it."
)
# What is mistaken for what on screenshots.
MISREAD = str.maketrans(
    {"l": "1", "o": "0", "'": "’", '"': "”", "-": "—", "`": "‘", "i": "í", "e": "c", ".": ",", "m": "n"}
)


def spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def within(place: int, span: tuple[int, int]) -> bool:
    return span[0] <= place < span[1]


def test_words_as_they_are_in_the_text_are_in_their_middle() -> None:
    assert locate_words(TEXT.split(), TEXT) == [(start + end) // 2 for start, end in spans(TEXT)]


def test_offsets_are_code_points() -> None:
    text = "👩‍🔬 naïve 日本語 end"
    assert locate_words(text.split(), text) == [(start + end) // 2 for start, end in spans(text)]


def test_misread_code_and_punctuation() -> None:
    screen = "Use *rows()°, a method: *’’ python for row in table.rows(): print(row[‘A'], row[”B”]) "
    screen += "*°* It's s1ow - avo1d it,"
    read = dict(zip(screen.split(), locate_words(screen.split(), TEXT), strict=True))
    # The fence is a word of its own on the screen.
    right = {"Use": 0, "*rows()°,": 1, "a": 2, "method:": 3, "python": 4, "for": 5, "row": 6, "in": 7}
    right |= {
        "table.rows():": 8,
        "print(row[‘A'],": 9,
        "row[”B”])": 10,
        "It's": 12,
        "s1ow": 13,
        "-": 14,
        "avo1d": 15,
        "it,": 16,
    }
    for word, number in right.items():
        assert within(read[word], spans(TEXT)[number]), word
    assert not within(read["*°*"], spans(TEXT)[12])


def test_words_run_together_and_torn_apart() -> None:
    text = "A remarkable property of the alphabet."
    together, apart = locate_words(["A", "remark", "able", "property", "ofthe", "alphabet."], text), spans(text)
    assert apart[1][0] <= together[1] < together[2] < apart[1][1]
    assert apart[3][0] <= together[4] < apart[4][1]
    assert within(together[5], apart[5])


def test_a_word_that_is_not_in_the_text_is_nowhere() -> None:
    assert locate_words(["quick", "#####", "zebra"], "the quick fox")[1:] == [-1, -1]
    assert locate_words([], TEXT) == []
    assert locate_words(["word"], "") == [-1]
    assert locate_words(["", "   "], "some text") == [-1, -1]


def test_a_lost_line_moves_no_word_to_another_line() -> None:
    lines = ["the cat saw the dog", "and the dog saw the cat", "so the cat left the dog"]
    text = " ".join(lines)
    screen = (lines[0] + " " + lines[2]).split()
    right = spans(text)[:5] + spans(text)[11:]
    assert all(within(place, span) for place, span in zip(locate_words(screen, text), right, strict=True))


word = st.text("abcdefghijklmnoprstuvwz-'.", min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_noise_never_changes_the_order_and_nothing_is_found_that_is_not_there(data: st.DataObject) -> None:
    tokens = data.draw(st.lists(word, min_size=1, max_size=40))
    text = " ".join(tokens)
    screen, truth = [], []
    for number, token in enumerate(tokens):
        change = data.draw(st.sampled_from(["", "", "", "misread", "lost", "added"]))
        if change == "lost":
            continue
        if change == "added":
            screen.append("§§§")
            truth.append(None)
        screen.append(token.translate(MISREAD) if change == "misread" else token)
        truth.append(number)
    places = locate_words(screen, text)
    found = [place for place in places if place >= 0]
    assert found == sorted(found)
    assert all(0 <= place < len(text) for place in found)
    assert all(place == -1 for place, number in zip(places, truth, strict=True) if number is None)


distinct = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=12), min_size=5, max_size=60, unique_by=lambda w: w[:2]
)


@settings(max_examples=100, deadline=None)
@given(distinct, st.data())
def test_words_with_one_wrong_letter_are_all_found_where_they_are(tokens: list[str], data: st.DataObject) -> None:
    text = " ".join(tokens)
    screen, truth = [], []
    for token, span in zip(tokens, spans(text), strict=True):
        change = data.draw(st.sampled_from(["", "misread", "lost"]))
        if change == "lost":
            continue
        wrong = data.draw(st.integers(0, len(token) - 1)) if change else len(token)
        screen.append(token[:wrong] + "Ø" * bool(change) + token[wrong + 1 :])
        truth.append(span)
    assert all(within(place, span) for place, span in zip(locate_words(screen, text), truth, strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=30), st.text(max_size=400))
def test_whatever_was_read_is_somewhere_or_nowhere(screen: list[str], text: str) -> None:
    places = locate_words(screen, text)
    assert len(places) == len(screen)
    assert all(place == -1 or 0 <= place < len(text) for place in places)


def test_as_many_words_as_there_may_be_take_seconds() -> None:
    assert locate_words(["word"] * MOST_WORDS, "a b " * 2_000) == [-1] * MOST_WORDS
