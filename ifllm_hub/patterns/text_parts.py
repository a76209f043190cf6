"""The parts of an answer, by its Markdown as it was shown: headings, list items, bold terms, and the like."""

import re

import numpy as np

CATEGORIES = ("first sentence", "heading", "list item", "code", "number", "bold", "last paragraph", "other")
_MARK = r"\s*(?:[-*+•]|\d+[.)])\s"
_FIRST_SENTENCE = re.compile(r"\s*\S[^\n]*?(?:[.!?:](?=\s|$)|(?=\n)|$)")
_HEADING, _ITEM, _INDENTED = re.compile(r"\s{0,3}#{1,6}\s"), re.compile(_MARK), re.compile(r" {4}|\t")
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s)|(?=\n)|$)")
_DIGIT = re.compile(r"\d")
_BOLD = re.compile(r"\*\*[^*\n]+\*\*")


def parts_of(text: str) -> np.ndarray:
    """(8, code points) which characters belong to which of `CATEGORIES`.

    "first sentence": up to the first `.`, `!`, `?` or `:` before a space, or the end of the line. "heading": a line
    with `#`. "list item": a line with a bullet or number. "code": in a fence, or an indented line that is no list item.
    "number": a sentence with a digit, but for the number of a list item. "bold": between `**`, with these. "last
    paragraph": the last line with text, of two or more. "other": none of these. Headings, list items and code do not
    overlap; the others may overlap with them and with each other.
    """
    marks = np.zeros((len(CATEGORIES), len(text)), dtype=bool)
    first, heading, item, code, number, bold, last, other = marks
    if (sentence := _FIRST_SENTENCE.match(text)) is not None:
        first[: sentence.end()] = True
    at, fenced, lines = 0, False, []
    for line in text.split("\n"):
        span = slice(at, at + len(line))
        fence = line.lstrip().startswith("```")
        if fence or fenced:
            code[span] = True
        elif _HEADING.match(line):
            heading[span] = True
        elif _ITEM.match(line):
            item[span] = True
        elif _INDENTED.match(line) and line.strip():
            code[span] = True
        fenced ^= fence
        if line.strip():
            lines.append(span)
        mark = _ITEM.match(line)
        start = mark.end() if mark else 0
        for sentence in _SENTENCE.finditer(line, start) if _DIGIT.search(line, start) else ():
            if _DIGIT.search(sentence.group()):
                number[at + sentence.start() : at + sentence.end()] = True
        at += len(line) + 1
    for strong in _BOLD.finditer(text):
        bold[strong.start() : strong.end()] = True
    if len(lines) > 1:
        last[lines[-1]] = True
    other[:] = ~marks[:-1].any(axis=0)
    return marks
