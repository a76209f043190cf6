"""Ask a judge one question over the OpenAI chat API, again after failures that may pass, and not after others."""

import os
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import ChatCompletionOutput, InferenceClient, get_token
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from ifllm_hub.chat_dialect import Dialect, chat_arguments
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.evaluation.judge.prompts import Form, response_format, schema_format
from ifllm_hub.evaluation.judge.verdicts import NoVerdict, Verdict, read_verdict, utf8
from ifllm_hub.terms import Message

LONGEST_WAIT = 300.0
# Too many requests, or an error of the server's own; any other status would only come again.
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_FATAL = {
    401: "the key is not accepted. Set the variable that api_key_variable names",
    403: "this key has no access",
    404: "there is no such model or address",
}


@dataclass(kw_only=True)
class Endpoint:
    """Which judge, where it answers, and how patient to be."""

    judge: str = field(metadata={"help": "Model name that the server knows, or Hub model id."})
    judge_name: str | None = field(
        default=None, metadata={"help": "What the table calls the judge, such as a folder's name; judge if unset."}
    )
    base_url: str | None = field(
        default=None, metadata={"help": "OpenAI-compatible server, such as http://127.0.0.1:8000/v1; Hub if unset."}
    )
    provider: str | None = field(
        default=None, metadata={"help": "Inference provider of the Hub; the Hub's choice if unset."}
    )
    api_key_variable: str | None = field(
        default=None, metadata={"help": "Environment variable with the key; the Hub's own login if unset."}
    )
    max_tokens: int = field(default=512, metadata={"help": "Longest answer of the judge, in tokens."})
    structured: bool = field(default=True, metadata={"help": "Ask for the JSON schema (preset corrected only)."})
    attempts: int = field(default=4, metadata={"help": "How often a question is asked before it counts as failed."})
    backoff: float = field(default=1.0, metadata={"help": "Wait after the first failure, in s; it doubles each time."})
    timeout: float = field(default=120.0, metadata={"help": "Longest wait for the server, in s."})


@dataclass(frozen=True)
class Outcome:
    """The result of one question.

    Attributes:
        verdict: None unless `status` is `ok`.
        status: `ok`, `malformed`, `refused`, `truncated`; `failed` where the server gave no answer at all.
        raw: the last answer as received; None if there was none.
        earlier_raw: those before it, which were not verdicts.
        error: what went wrong on the way, even if there was a verdict in the end.
        refused: parameters that the server had refused, so that the last attempt was made without them; see `Dialect`.
        prompt_tokens: of all attempts; None where the server does not say. Likewise `answer_tokens`.
    """

    verdict: Verdict | None
    status: str
    raw: str | None
    earlier_raw: tuple[str, ...]
    error: str | None
    refused: tuple[str, ...]
    attempts: int
    prompt_tokens: int | None
    answer_tokens: int | None


class JudgeClient:
    """Asks one judge; several threads may use it at the same time.

    A server that refuses a parameter is asked without it from then on, see `Dialect`; the prompt states the required
    form too.
    """

    def __init__(self, endpoint: Endpoint, form: Form, temperature: float) -> None:
        """Raises IfllmError: the variable that should hold the key is not set, or there is no login to the Hub."""
        self._endpoint = endpoint
        self._form, self._temperature = form, temperature
        self._response_format = response_format(form) if endpoint.structured and form.preset == "corrected" else None
        self._dialect = Dialect(self.where)
        self._client = _Client(
            base_url=endpoint.base_url,
            provider=endpoint.provider,  # type: ignore[arg-type]  # a name; an unknown one is refused
            timeout=endpoint.timeout,
            api_key=_key(endpoint),
        )

    def ask(self, messages: list[Message]) -> Outcome:
        """Ask until there is a verdict, a refusal or a cut answer, or the attempts are used up.

        After a failure that may pass (429, 5xx, silence, a malformed answer) the question is asked again. The wait
        doubles each time, is cut at random by up to half, and is never shorter than `Retry-After` says.

        Raises:
            IfllmError: no answer can come: the server cannot be reached, or does not accept the key or the model.
        """
        tries = _Tries()
        unreachable = False
        while tries.count < self._endpoint.attempts:
            tries.count += 1
            wait = self._endpoint.backoff * 2 ** (tries.count - 1) * random.uniform(0.5, 1)
            try:
                completion = self._complete(messages, tries)
            except _Trouble as trouble:
                tries.errors.append(str(trouble))
                unreachable = trouble.unreachable
                if not trouble.may_pass:
                    return tries.outcome(None, "failed")
                wait = max(wait, trouble.retry_after)
                status = "failed"
            else:
                unreachable = False
                read = self._read(completion, tries)
                if isinstance(read, Verdict):
                    return tries.outcome(read, "ok")
                tries.errors.append(read.error)
                status = read.status
                if status != "malformed":
                    break
            if tries.count < self._endpoint.attempts:
                time.sleep(min(wait, LONGEST_WAIT))
        if unreachable:
            raise IfllmError(
                f"{self.where}: {tries.errors[-1]}. {self._way_out()}, then run this again; it continues from there."
            )
        return tries.outcome(None, status)

    def _way_out(self) -> str:
        url = self._endpoint.base_url or ""
        proxy = _proxy_of(url)
        if proxy is None:
            return "Start it"
        return (
            f"The environment sends requests for it to the proxy {proxy}: add {urlsplit(url).hostname} to NO_PROXY, or "
            "start both"
        )

    @property
    def where(self) -> str:
        """The judge and its address, for error messages."""
        return f"The judge {self._endpoint.judge} at {self._endpoint.base_url or 'the Hub'}"

    def _complete(self, messages: list[Message], tries: "_Tries") -> ChatCompletionOutput:
        """Send one request, and again without each parameter that the server refuses.

        Raises:
            _Trouble: there is no chat completion.
            IfllmError: there will be none for any other question either.
        """
        tries.refused = self._dialect.refused
        arguments = chat_arguments(tries.refused, self._endpoint.max_tokens, self._temperature, self._response_format)
        try:
            return self._client.chat_completion(messages, model=self._endpoint.judge, **arguments)
        except HfHubHTTPError as error:
            if self._dialect.learns(error, arguments):
                return self._complete(messages, tries)
            status, said = error.response.status_code, _said(error)
            if status in _FATAL:
                raise IfllmError(f"{self.where}: {_FATAL[status]} ({said}).") from error
            raise _Trouble(said, may_pass=status in _PASSING, retry_after=_retry_after(error)) from error
        except OfflineModeIsEnabled as error:
            raise IfllmError("HF_HUB_OFFLINE is set, which stops requests to any server. Unset it for this.") from error
        except InferenceTimeoutError as error:
            raise _Trouble(f"no answer within {self._endpoint.timeout:g} s") from error
        except httpx.ConnectError as error:
            raise _Trouble(f"cannot be reached ({first_line(error)})", unreachable=True) from error
        except (httpx.HTTPError, ValueError, TypeError, RecursionError) as error:
            raise _Trouble(f"not a chat completion ({type(error).__name__}: {first_line(error)[:200]})") from error

    def _read(self, completion: ChatCompletionOutput, tries: "_Tries") -> Verdict | NoVerdict:
        try:
            choice = completion.choices[0]
            text, refusal = choice.message.content, getattr(choice.message, "refusal", None)
            finish_reason = choice.finish_reason
        except (AttributeError, LookupError, TypeError):
            return NoVerdict("malformed", "the server's answer holds no message")
        if text is not None and not isinstance(text, str):
            return NoVerdict("malformed", "the message is not a text")
        tries.answers.append(utf8(text or ""))
        tries.usage.append(completion.usage)
        return read_verdict(self._form, text, finish_reason, refusal)


class _Client(InferenceClient):
    """`InferenceClient` that sends an OpenAI-compatible server the schema in OpenAI's form.

    For any URL, huggingface_hub 2.4 rewrites it to that of TGI (`{"type": "json_object", "value": ...}`), from which
    other servers cannot tell that there is a schema.
    """

    def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> Any:
        asked = (request_parameters.json or {}).get("response_format")
        if asked and "value" in asked:
            request_parameters.json["response_format"] = schema_format(asked["value"])
        return super()._inner_post(request_parameters, stream=stream)


class _Trouble(Exception):
    """Why there was no answer."""

    def __init__(self, why: str, *, may_pass: bool = True, retry_after: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(why)
        self.may_pass, self.retry_after, self.unreachable = may_pass, retry_after, unreachable


@dataclass
class _Tries:
    """The results of all attempts at one question."""

    count: int = 0
    refused: frozenset[str] = frozenset()
    answers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    usage: list[Any] = field(default_factory=list)

    def outcome(self, verdict: Verdict | None, status: str) -> Outcome:
        return Outcome(
            verdict=verdict,
            status=status,
            raw=self.answers[-1] if self.answers else None,
            earlier_raw=tuple(self.answers[:-1]),
            error=utf8("; then ".join(self.errors)) or None,
            refused=tuple(sorted(self.refused)),
            attempts=self.count,
            prompt_tokens=self._tokens("prompt_tokens"),
            answer_tokens=self._tokens("completion_tokens"),
        )

    def _tokens(self, name: str) -> int | None:
        counts = [getattr(usage, name, None) for usage in self.usage]
        whole = [count for count in counts if isinstance(count, int) and 0 <= count < 2**31]
        return sum(whole) if whole and len(whole) == len(counts) else None


def _key(endpoint: Endpoint) -> str | None:
    if endpoint.api_key_variable is None and endpoint.base_url:
        return "none"  # left to itself the client would send the Hub's token to any server
    if endpoint.api_key_variable is None:
        if get_token() is None:
            raise IfllmError("Judges on the Hub need a login: hf auth login. For a server of your own, set base_url.")
        return None
    if not os.environ.get(endpoint.api_key_variable):
        raise IfllmError(f"The environment variable {endpoint.api_key_variable} is not set. Put the judge's key in it.")
    return os.environ[endpoint.api_key_variable]


def _proxy_of(url: str) -> str | None:
    """Host and port of the proxy that the environment sets for an address."""
    parts, proxies = urlsplit(url), getproxies()
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy.rpartition("/")[2].rpartition("@")[2] if proxy else None


def _said(error: HfHubHTTPError) -> str:
    body = error.response.text
    return f"HTTP {error.response.status_code}: {' '.join(body.split())[:300]}"


def _retry_after(error: HfHubHTTPError) -> float:
    """Seconds that the server asks to wait, which it gives as a number or as a date; 0 if it does not."""
    value = error.response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
