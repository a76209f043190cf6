"""Which parameters a chat completion goes with, learned from what the server refuses.

OpenAI-compatible servers speak dialects: OpenAI's reasoning models want `max_completion_tokens` for `max_tokens` and no
temperature, others know no `response_format`. A client that knows dialects (litellm) tells them by the model's name,
which says nothing of a deployment, a proxy or next year's model, and brings 60 packages; OpenAI's own sends what it is
given. The refusal names the parameter, whoever sends it, so it is what counts here.
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
    "temperature": "its own is used",
    "response_format": "the form is asked for in words alone",
}
_NOT_TAKEN = (
    r"unsupported|not supported|(?:does|do) not support|not (?:allowed|permitted)|only\b.{0,20}\b(?:allowed|supported)|"
    r"unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)|deprecated"
)
# Near the name, and not anywhere: a server may repeat the whole request, or say that max_tokens is too large.
_REFUSED = {
    name: re.compile(
        rf"\b{name}\b.{{0,60}}?(?:{_NOT_TAKEN})|(?:{_NOT_TAKEN}).{{0,40}}?\b{name}\b", re.IGNORECASE | re.DOTALL
    )
    for name in ("max_tokens", "temperature")
} | {"response_format": re.compile(r"response_format|json_schema|json_object|structured|guided|grammar", re.IGNORECASE)}


class Dialect:
    """What one server takes; threads may share it.

    Attributes:
        refused: those of `max_tokens`, `temperature` and `response_format` that it was found to refuse.
    """

    def __init__(self, server: str) -> None:
        """`server` is what the log calls it."""
        self._server = server
        self._lock = threading.Lock()
        self.refused: frozenset[str] = frozenset()

    def learns(self, error: "HfHubHTTPError", sent: Collection[str]) -> bool:
        """Whether the server refused a parameter that was sent, by name: then it is to be asked again without.

        What it refuses is said in the log, once.
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
