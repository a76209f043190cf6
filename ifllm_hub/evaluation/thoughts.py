"""What a reasoning model thinks aloud before it answers: `<think>...</think>`, which its chat template may open."""

OPENED, CLOSED = "<think>", "</think>"


def without_thought(text: str) -> str:
    """The answer alone; empty where the text ends within the thought. A text without a thought stays as it is.

    A thought comes before everything else. If the chat template opened it, the text has only its closing tag.
    """
    before, closed, answer = text.lstrip().partition(CLOSED)
    if before.startswith(OPENED) or (closed and OPENED not in before):
        return answer.strip()
    return text
