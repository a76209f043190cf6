"""A study's models: an OpenAI-compatible endpoint, Inference Providers, a local policy, or a script."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from ifllm_hub.align.policies import SMOLLM2
from ifllm_hub.chat_dialect import Dialect, chat_arguments
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terms import Message

DEFAULT_MODELS = (f"local:{SMOLLM2}",)
# Sent to endpoints as the bearer token; Inference Providers get the Hub's own.
ENDPOINT_KEY = "IFLLM_STUDY_ENDPOINT_KEY"
# Seconds of silence after which an endpoint is given up.
_PATIENCE = 60
_TEMPERATURE = 0.7

Key = TypeVar("Key")


class AnswerFailed(IfllmError):
    """A model did not answer, or broke off."""


class AnsweringModel(Protocol):
    """What the study needs from a model.

    Attributes:
        name: as it is stored with each answer.
    """

    name: str

    def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str]:
        """Pieces of the answer to a conversation that ends with the user's turn.

        Raises:
            AnswerFailed: (while it is read).
        """


@dataclass
class EchoModel:
    """A script for tests: it repeats the question and continues with a text of its own, one word at a time.

    Attributes:
        pause: seconds between words.
    """

    name: str = "echo"
    words: int = 60
    pause: float = 0.01

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str]:
        text = f"You asked: {messages[-1]['content']}\n" + " ".join(f"{self.name} {n}" for n in range(self.words))
        for word in text.split(" ")[:max_tokens]:
            yield f"{word} "
            await asyncio.sleep(self.pause)


@dataclass
class EndpointModel:
    """A model behind an OpenAI-compatible endpoint, or at Inference Providers.

    Attributes:
        url: of the endpoint, up to and including `/v1`; None: Inference Providers.
    """

    name: str
    url: str | None
    _dialect: Dialect = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._dialect = Dialect(self.name)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str]:
        from huggingface_hub import AsyncInferenceClient

        # Without a key of its own, an endpoint must not be sent the Hub's token.
        key = (os.environ.get(ENDPOINT_KEY) or "none") if self.url else None
        client = AsyncInferenceClient(base_url=self.url, api_key=key, timeout=_PATIENCE)
        try:
            chunks = await self._complete(client, list(messages), max_tokens)
            async for chunk in chunks:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    yield piece
        except Exception as error:  # the client raises those of its HTTP library, of JSON and its own
            raise AnswerFailed(f"{self.name}: no answer ({first_line(error)}).") from error
        finally:
            await client.close()

    async def _complete(self, client: Any, messages: list[Message], max_tokens: int) -> Any:
        """Ask, and again without each parameter that the endpoint refuses."""
        from huggingface_hub.errors import HfHubHTTPError

        arguments = chat_arguments(self._dialect.refused, max_tokens, _TEMPERATURE)
        try:
            return await client.chat_completion(messages, model=self.name, stream=True, **arguments)
        except HfHubHTTPError as error:
            await error.response.aread()  # for a stream, the client reads an error's body only if its length is given
            if not self._dialect.learns(error, arguments):
                raise
            return await self._complete(client, messages, max_tokens)


@dataclass
class LocalModel:
    """A policy on this machine; it gives one answer at a time, and the first question loads it.

    Attributes:
        policy: a name for `ifllm_hub.align.policies.load_policy`.
    """

    policy: str
    _loaded: Any = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.policy

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str]:
        from transformers import AsyncTextIteratorStreamer

        async with self._lock:
            if self._loaded is None:
                self._loaded = await asyncio.to_thread(_load, self.policy)
            model, tokenizer = self._loaded
            encoded = tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
            stopping = _Stop()
            settings = {"max_new_tokens": max_tokens, "do_sample": True, "temperature": _TEMPERATURE}
            failures: list[Exception] = []

            def generate() -> None:
                try:
                    model.generate(**encoded, **settings, streamer=streamer, stopping_criteria=[stopping])
                except Exception as error:  # whatever it is, the stream's reader must not wait for more
                    failures.append(error)
                    streamer.end()

            thread = threading.Thread(target=generate, daemon=True)
            thread.start()
            try:
                async for piece in streamer:
                    yield piece
            finally:
                stopping.asked = True  # the reader may have left early
                await asyncio.to_thread(thread.join)
            if failures:
                raise AnswerFailed(f"{self.name}: no answer ({first_line(failures[0])}).") from failures[0]


class _Stop:
    """A stopping criterion of `generate`: true once it is asked to stop."""

    asked = False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self.asked, dtype=torch.bool)


def _load(policy: str) -> Any:
    from ifllm_hub.align.policies import load_policy

    model, tokenizer = load_policy(policy)
    return model.eval(), tokenizer


def model_of(spec: str) -> AnsweringModel:
    """The model that a name stands for.

    Args:
        spec: `NAME@URL` (an OpenAI-compatible endpoint, its URL up to and including `/v1`), `hub:ID` (Inference
            Providers), `local:POLICY` (see `ifllm_hub.align.policies.load_policy`), or `echo` (a script, for trying the
            app out).

    Raises:
        IfllmError: it is none of these.
    """
    kind, _, rest = spec.partition(":")
    if spec == "echo":
        return EchoModel()
    if kind == "local" and rest:
        return cast(AnsweringModel, LocalModel(rest))
    if kind == "hub" and rest:
        return EndpointModel(rest, None)
    name, _, url = spec.rpartition("@")
    if name and url.startswith(("http://", "https://")):
        return EndpointModel(name, url)
    raise IfllmError(
        f"{spec!r}: not a model. Write NAME@https://host/v1, hub:OWNER/NAME, local:{SMOLLM2}, local:FOLDER or echo."
    )


async def streamed_together(
    streams: Mapping[Key, AsyncIterator[str]],
) -> AsyncGenerator[tuple[Key, str | AnswerFailed]]:
    """The pieces of several answers as they arrive, each with its stream's key; a failure ends only that stream."""
    pieces: asyncio.Queue[tuple[Key, str | AnswerFailed | None]] = asyncio.Queue()

    async def read(key: Key, stream: AsyncIterator[str]) -> None:
        try:
            async for piece in stream:
                pieces.put_nowait((key, piece))
        except AnswerFailed as failure:
            pieces.put_nowait((key, failure))
        finally:
            pieces.put_nowait((key, None))

    readers = [asyncio.create_task(read(key, stream)) for key, stream in streams.items()]
    try:
        for _ in streams:
            while True:
                key, piece = await pieces.get()
                if piece is None:
                    break
                yield key, piece
    finally:
        for reader in readers:
            reader.cancel()
        # Wait for them to end, so that no model keeps answering somebody who left.
        await asyncio.gather(*readers, return_exceptions=True)
