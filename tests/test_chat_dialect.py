"""What servers say when they refuse a parameter, and what only sounds like it."""

import pytest
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from ifllm_hub.chat_dialect import Dialect, chat_arguments


def error(status: int, body: str) -> HfHubHTTPError:
    response = httpx.Response(status, text=body, request=httpx.Request("POST", "http://127.0.0.1/v1"))
    return HfHubHTTPError("refused", response=response)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", "max_tokens"),
        ("Unsupported value: 'temperature' does not support 0 with this model.", "temperature"),
        ("invalid temperature: only 1 is allowed for this model", "temperature"),
        ("`temperature` is deprecated for this model.", "temperature"),
        ('{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}', "max_tokens"),
        ("Unrecognized request argument supplied: max_tokens", "max_tokens"),
        ("response_format is not available", "response_format"),
        ("temperature must be strictly positive", None),
        ("max_tokens is too large: 512. The maximum context length is 400 tokens.", None),
        ("'max_completion_tokens' is not supported", None),
        (f'{{"msg": "Unknown role", "input": {{"messages": "{50 * "x"}", "max_tokens": 512}}}}', None),
    ],
)
def test_which_parameter_is_refused(body: str, name: str | None) -> None:
    dialect = Dialect("The server")
    assert dialect.learns(error(400, body), ("max_tokens", "temperature", "response_format")) == (name is not None)
    assert dialect.refused == ({name} if name else set())
    assert not Dialect("The server").learns(error(500, body), ("max_tokens", "temperature", "response_format"))
    assert not Dialect("The server").learns(error(400, body), ())  # what was not sent was not refused


def test_what_is_sent() -> None:
    form = {"type": "json_object"}
    assert chat_arguments((), 5, 0.0, form) == {"max_tokens": 5, "temperature": 0.0, "response_format": form}
    assert chat_arguments((), 5, 0.7) == {"max_tokens": 5, "temperature": 0.7}
    every = ("max_tokens", "temperature", "response_format")
    assert chat_arguments(every, 5, 0.0, form) == {"extra_body": {"max_completion_tokens": 5}}
