"""Sampling answers so that each depends on its own prompt and seed, and not on what else is in the batch."""

import hashlib
import importlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.policies import TINY, policy_folder
from ifllm_hub.align.runs.run import chat_policy
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.generation.model_revision import model_name
from ifllm_hub.evaluation.thoughts import OPENED
from ifllm_hub.terms import Message

if TYPE_CHECKING:
    import torch
    from transformers import LogitsProcessor


@dataclass(kw_only=True)
class Sampling:
    """How the next token is chosen; the defaults are the paper's, with a seed."""

    max_new_tokens: int = field(default=512, metadata={"help": "Longest answer, in tokens."})
    temperature: float = field(default=1.0, metadata={"help": "Divides the logits."})
    top_p: float = field(default=0.95, metadata={"help": "Smallest set of tokens with this much probability."})
    top_k: int = field(default=0, metadata={"help": "Only this many tokens; 0 for all."})
    seed: int = field(default=0, metadata={"help": "Another seed gives other answers."})
    greedy: bool = field(default=False, metadata={"help": "Always the likeliest token; nothing is drawn."})


@dataclass(frozen=True)
class Prompt:
    """One question: its `question_id`, and the messages of the conversation, the last of which is the user's."""

    question_id: int
    messages: list[Message]


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: without white space at its ends; with the thought of a reasoning model, opened by `<think>` even if the
            chat template wrote that and not the model.
        finish_reason: `stop` after the model's own end token, `length` where `max_new_tokens` cut it.
        answer_tokens: without the end token.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings that no sampler accepts.

    Raises:
        IfllmError: a value is out of its range.
    """
    for name, value, is_right, range_ in (
        ("max_new_tokens", sampling.max_new_tokens, sampling.max_new_tokens >= 1, "at least 1"),
        ("temperature", sampling.temperature, sampling.temperature > 0, "more than 0; for 0, set greedy"),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "more than 0 and at most 1"),
        ("top_k", sampling.top_k, sampling.top_k >= 0, "at least 0"),
    ):
        if not is_right:
            raise IfllmError(f"{name} is {value}; it must be {range_}.")


def prompt_seed(seed: int, prompt: Prompt) -> int:
    """The seed of one prompt's own generator: 63 bits of a SHA-256 over `seed`, the question and its messages.

    The model is not part of it: two models answer a question with the same random numbers, which pairs their answers.
    """
    text = json.dumps([seed, prompt.question_id, prompt.messages])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def transformers_answers(
    model: str, prompts: Sequence[Prompt], sampling: Sampling, batch_size: int
) -> Iterator[list[Answer]]:
    """Answer prompts with `transformers`, batch by batch, in the order given.

    Prompts are padded on the left. Every prompt has its own generator, which gives one uniform number per token; the
    token is where that number falls in the cumulative probabilities. So an answer depends on the other prompts of its
    batch only through the logits: those of a padded row differ in the last digits of their float32, which can flip a
    near-tie. With `batch_size` 1 they do not differ.

    Raises:
        IfllmError: a prompt leaves no room for an answer; see `chat_policy`.
    """
    import torch
    from transformers import LogitsProcessorList

    policy, tokenizer = _ready(model)
    _check_lengths(prompts, sampling, policy, tokenizer)
    ends = policy.generation_config.eos_token_id
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        inputs = tokenizer.apply_chat_template(
            [prompt.messages for prompt in batch],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(policy.device)
        processors = LogitsProcessorList() if sampling.greedy else LogitsProcessorList(_warpers(batch, sampling))
        with torch.inference_mode():
            tokens = policy.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                logits_processor=processors,
            )
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        new = tokens[:, inputs["input_ids"].shape[1] :].tolist()
        opening = _opening(tokenizer, inputs["input_ids"][0].tolist())
        yield [_answer(row, length, ends, tokenizer, opening) for row, length in zip(new, lengths, strict=True)]


def vllm_answers(model: str, prompts: Sequence[Prompt], sampling: Sampling, batch_size: int) -> Iterator[list[Answer]]:
    """The same with vLLM, which must be installed. It seeds each request but has its own sampler, so answers differ.

    Raises:
        IfllmError: vLLM is not installed; `"tiny"`, whose weights are in no file; see `chat_policy`.
    """
    try:
        vllm = importlib.import_module("vllm")
    except ImportError as error:
        raise IfllmError("vLLM is not installed. Leave `engine` at transformers, or: pip install vllm") from error
    if model == TINY:
        raise IfllmError(f"vLLM reads weights from files, and the policy {TINY!r} has none. Use engine transformers.")
    _, tokenizer = chat_policy(model)  # for its chat template; vLLM loads the weights itself
    engine = vllm.LLM(model=str(policy_folder(model) or model_name(model)))
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        shown: list[Any] = [
            tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True) for prompt in batch
        ]
        params = [
            vllm.SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=0.0 if sampling.greedy else sampling.temperature,
                top_p=1.0 if sampling.greedy else sampling.top_p,
                top_k=0 if sampling.greedy else sampling.top_k,
                seed=prompt_seed(sampling.seed, prompt),
            )
            for prompt in batch
        ]
        outputs = engine.generate(
            [{"prompt_token_ids": list(encoded["input_ids"])} for encoded in shown], params, use_tqdm=False
        )
        yield [
            Answer(
                text=_opening(tokenizer, output.prompt_token_ids) + output.outputs[0].text.strip(),
                finish_reason="length" if output.outputs[0].finish_reason == "length" else "stop",
                prompt_tokens=len(output.prompt_token_ids),
                answer_tokens=len(output.outputs[0].token_ids),
            )
            for output in outputs
        ]


def _ready(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import GenerationConfig

    policy: Any
    policy, tokenizer = chat_policy(model)
    policy.eval()
    if torch.accelerator.is_available():
        policy.to(torch.accelerator.current_accelerator())
    tokenizer.padding_side = "left"
    own = policy.generation_config.eos_token_id
    ends = sorted({tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})
    # What the checkpoint recommends (a repetition penalty, say) must not be added to the settings.
    policy.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    return policy, tokenizer


def _check_lengths(prompts: Sequence[Prompt], sampling: Sampling, policy: Any, tokenizer: Any) -> None:
    room = getattr(policy.config, "max_position_embeddings", math.inf)
    for prompt in prompts:
        length = len(tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True)["input_ids"])
        if length + sampling.max_new_tokens > room:
            raise IfllmError(
                f"Question {prompt.question_id} has {length} tokens; with {sampling.max_new_tokens} for the answer "
                f"that is more than the {room} this model can read. Show less history, or lower max_new_tokens."
            )


def _opening(tokenizer: Any, prompt: Sequence[int]) -> str:
    """`<think>` where a prompt of this chat template ends with it; the model then begins with its thought."""
    return OPENED if tokenizer.decode(prompt[-16:]).rstrip().endswith(OPENED) else ""


def _answer(tokens: list[int], prompt_tokens: int, ends: Sequence[int], tokenizer: Any, opening: str) -> Answer:
    length = next((place for place, token in enumerate(tokens) if token in ends), None)
    kept = tokens if length is None else tokens[:length]
    text = opening + tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Answer(text, "length" if length is None else "stop", prompt_tokens, len(kept))


def _warpers(batch: Sequence[Prompt], sampling: Sampling) -> "list[LogitsProcessor]":
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    return [*warpers, _draw_with(_uniforms(batch, sampling))]


def _uniforms(batch: Sequence[Prompt], sampling: Sampling) -> "torch.Tensor":
    """(batch, max_new_tokens) float64 in [0, 1): a row depends on its prompt and the seed alone."""
    import torch

    generators = [torch.Generator().manual_seed(prompt_seed(sampling.seed, prompt)) for prompt in batch]
    rows = [torch.rand(sampling.max_new_tokens, generator=one, dtype=torch.float64) for one in generators]
    return torch.stack(rows)


def float64_device(device: "torch.device") -> "torch.device":
    """The device to compute in float64 on: the same one, or the CPU for Apple's MPS, which has no float64."""
    import torch

    return torch.device("cpu") if device.type == "mps" else device


def _draw_with(uniforms: "torch.Tensor") -> "LogitsProcessor":
    """A processor that leaves one token possible, so that the likeliest is the one drawn."""
    import torch
    from transformers import LogitsProcessor

    class Draw(LogitsProcessor):
        def __init__(self) -> None:
            self._step = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            cumulated = scores.to(float64_device(scores.device)).double().softmax(dim=-1).cumsum(dim=-1)
            total = cumulated[:, -1:]
            uniform = uniforms[:, self._step : self._step + 1].to(cumulated.device)
            # Kept below the total, since otherwise a token after the last possible one could be drawn.
            level = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
            self._step += 1
            drawn = torch.searchsorted(cumulated, level, right=True).to(scores.device)
            return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    return Draw()
