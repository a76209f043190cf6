"""Which parameters of a chat completion a server accepts, learned from what it refuses.

OpenAI-compatible servers speak dialects: OpenAI's reasoning models want `max_completion_tokens` instead of `max_tokens`
and no temperature; others do not know `response_format`. A client that knows dialects (litellm) infers them from the
model's name, which says nothing about a deployment, a proxy or next year's model, and brings 60 packages; OpenAI's own
client sends what it is given. A refusal names the parameter, whatever the server, so refusals are what we learn from.
"""

import logging
import re
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

logger = logging.getLogger(__name__)

_INSTEAD = {
    "max_tokens": "max_completion_tokens is sent instead",
    "temperature": "the server's default is used",
    "response_format": "the prompt alone asks for the format",
}
_NOT_TAKEN = (
    r"unsupported|not supported|(?:does|do) not support|not (?:allowed|permitted)|only\b.{0,20}\b(?:allowed|supported)|"
    r"unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)|deprecated"
)
# Only near the name: a server may echo the whole request, or say that max_tokens is too large.
_REFUSED = {
    name: re.compile(
        rf"\b{name}\b.{{0,60}}?(?:{_NOT_TAKEN})|(?:{_NOT_TAKEN}).{{0,40}}?\b{name}\b", re.IGNORECASE | re.DOTALL
    )
    for name in ("max_tokens", "temperature")
} | {"response_format": re.compile(r"response_format|json_schema|json_object|structured|guided|grammar", re.IGNORECASE)}


class Dialect:
    """What one server accepts; threads may share it.

    Attributes:
        refused: which of `max_tokens`, `temperature` and `response_format` it has refused so far.
    """

    def __init__(self, server: str) -> None:
        """`server` is its name in the log."""
        self._server = server
        self._lock = threading.Lock()
        self.refused: frozenset[str] = frozenset()

    def learns(self, error: "HfHubHTTPError", sent: Collection[str]) -> bool:
        """Whether the server refused, by name, a parameter that was sent; if so, ask again without it.

        Each refused parameter is logged once.
        """
        if error.response.status_code not in (400, 422):
            return False
        said = error.response.text
        name = next((name for name, about in _REFUSED.items() if name in sent and about.search(said)), None)
        if name is None:
            return False
        with self._lock:
            if name not in self.refused:
                logger.warning("%s refuses %s; %s", self._server, name, _INSTEAD[name])
            self.refused |= {name}
        return True


def chat_arguments(
    refused: Collection[str], max_tokens: int, temperature: float, response_format: Any = None
) -> dict[str, Any]:
    """Arguments of `InferenceClient.chat_completion` for a server that refuses some of them."""
    arguments: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "response_format": response_format,
    }
    kept = {name: value for name, value in arguments.items() if name not in refused and value is not None}
    if "max_tokens" in refused:
        kept["extra_body"] = {"max_completion_tokens": max_tokens}
    return kept
