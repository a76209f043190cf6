r"""How the log-probability of each answer changes with the policy: one gradient an answer, whatever the labels.

A LoRA adapter adds $BA$ to the weight of a linear layer and starts at $B=0$, so that to the first order in a step $dB$

$$\log\pi(y\mid x) \to \log\pi(y\mid x) + \langle\phi, dB\rangle,\qquad \phi=\nabla_B\log\pi(y\mid x).$$

The gradient by $A$ is 0 at the start, and $A$, drawn at random, stays where it is. All that descent on any loss of
log-probabilities does is then in the inner products of the answers' $\phi$ (`gram`), as for a neural tangent kernel
(https://huggingface.co/papers/1806.07572): no label is needed here, and every label source shares this pass.

Answers are taken one by one, whole, and without padding. Only the tokens that some answer of the data contains are in
the output head: the policy is asked what it would say if it could say nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.implicit_reward import answer_tokens
from ifllm_hub.align.policies import load_policy, lora_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import claim_folder, write_atomically
from ifllm_hub.preferences.load import fingerprint
from ifllm_hub.terms import Advance

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

SETTINGS_FILE = "gradients.json"
KEY = "gradients"
# Pairs of a file, which is what a stopped pass loses at most.
PAIRS_PER_FILE = 16
SEED = 0


@dataclass(frozen=True)
class Adapter:
    """The policy, and the part of it that would be trained.

    Attributes:
        policy: see `load_policy`.
        layers: how many of the last layers have a LoRA adapter; below them there is no backward pass.
        rank: of the adapter, on all linear layers of these.
        max_length: tokens of prompt and answer together, cut at the end.
    """

    policy: str = "smollm2-135m"
    layers: int = 10
    rank: int = 16
    max_length: int = 768


@dataclass(frozen=True)
class Answers:
    """Tokenized answers of pairs; those of pair i are 2 i and 2 i + 1.

    Attributes:
        tokens: of the whole conversation, cut at `max_length`, and where the answer begins.
        vocabulary: the token ids that answers contain, ascending.
    """

    tokens: list[tuple[list[int], int]]
    vocabulary: list[int]


def tokenize(tokenizer: Any, pairs: "Dataset", max_length: int) -> Answers:
    """The answers `left` and `right` after their `prompt`.

    Raises:
        IfllmError: `max_length` leaves no token of an answer.
    """
    tokens = [
        answer_tokens(tokenizer, row["prompt"], row[side], max_length) for row in pairs for side in ("left", "right")
    ]
    for at, (ids, start) in enumerate(tokens):
        if start >= len(ids):
            raise IfllmError(
                f"Question {pairs[at // 2]['question_id']}: the prompt alone has max_length = {max_length} tokens or "
                "more. Raise max_length."
            )
    return Answers(tokens, sorted({token for ids, start in tokens for token in ids[start:]}))


def answer_gradients(
    pairs: "Dataset", folder: Path, adapter: Adapter, jobs: int = 1, advance: Advance = lambda _: None
) -> list[Path]:
    """Write the gradients of all answers, or those that are missing.

    Args:
        pairs: `question_id`, conversational `prompt`, `left`, `right`.
        folder: where they go, `PAIRS_PER_FILE` pairs a file; it belongs to these pairs and settings.
        jobs: processes, of one thread each on a CPU; each holds the policy once.

    Returns:
        The files in the order of the pairs, safetensors with `gradients`: (answers, parameters) bfloat16, nats; the two
        answers of a pair follow each other, left first.

    Raises:
        IfllmError: the folder holds gradients of other pairs or settings or cannot be written, the policy cannot be
            loaded or has fewer layers, or a prompt leaves no room for an answer.
    """
    _, tokenizer = load_policy(adapter.policy, SEED)
    answers = tokenize(tokenizer, pairs, adapter.max_length)
    settings = {**asdict(adapter), "SHA-256 of the pairs": fingerprint(pairs)}
    claim_folder(folder / SETTINGS_FILE, settings, "gradients of something else")
    parts = [range(start, min(start + PAIRS_PER_FILE, len(pairs))) for start in range(0, len(pairs), PAIRS_PER_FILE)]
    files = [folder / f"gradients-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(len(parts))]
    # The longest first, so that the processes end together.
    sizes = [sum(len(answers.tokens[at][0]) for at in range(2 * part.start, 2 * part.stop)) for part in parts]
    missing = sorted((at for at in range(len(parts)) if not files[at].is_file()), key=lambda at: -sizes[at])
    done, total = sum(sizes) - sum(sizes[at] for at in missing), sum(sizes)
    advance(done / total)
    tasks = [(files[at], answers.tokens[2 * parts[at].start : 2 * parts[at].stop]) for at in missing]
    for at, _ in zip(missing, _written(tasks, adapter, answers.vocabulary, jobs), strict=True):
        done += sizes[at]
        advance(done / total)
    return files


_Task = tuple[Path, list[tuple[list[int], int]]]


def _written(tasks: Sequence[_Task], adapter: Adapter, vocabulary: list[int], jobs: int) -> Iterator[None]:
    """Write the files in order; with several jobs, each in a process of its own."""
    if jobs == 1 or len(tasks) < 2:
        _start(adapter, vocabulary)
        yield from map(_write, tasks)
        return
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), _start, (adapter, vocabulary))
    try:
        yield from pool.map(_write, tasks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What one process keeps between files: the policy with its adapter."""

    model: Any
    parameters: "list[torch.Tensor]"
    places: "torch.Tensor"


def _start(adapter: Adapter, vocabulary: list[int]) -> None:
    import torch

    with suppress(RuntimeError):  # set before, where this is not a process of its own
        torch.set_num_threads(1)
    model, _ = load_policy(adapter.policy, SEED)
    _Worker.model, _Worker.parameters, _Worker.places = with_adapter(model, adapter, vocabulary)


def with_adapter(model: Any, adapter: Adapter, vocabulary: list[int]) -> "tuple[Any, list[torch.Tensor], torch.Tensor]":
    """Give a policy an adapter at its start, and only these tokens to say.

    Returns:
        The policy, of which the `B` of the adapter have a gradient and nothing else does; these, in the order of the
        layers; and at each token id its place in the vocabulary.
    """
    import torch
    from peft import inject_adapter_in_model

    model.requires_grad_(False)
    head = model.get_output_embeddings()
    kept = torch.nn.Linear(head.in_features, len(vocabulary), bias=head.bias is not None)
    chosen = torch.tensor(vocabulary)
    kept.weight = torch.nn.Parameter(head.weight[chosen].detach().clone(), requires_grad=False)
    if head.bias is not None:
        kept.bias = torch.nn.Parameter(head.bias[chosen].detach().clone(), requires_grad=False)
    places = torch.full((head.out_features,), -1)
    places[chosen] = torch.arange(len(vocabulary))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        inject_adapter_in_model(lora_config(model, adapter.rank, 2 * adapter.rank, adapter.layers), model)
    model.set_output_embeddings(kept)
    parameters = [value for name, value in model.named_parameters() if ".lora_B." in name]
    for name, value in model.named_parameters():
        value.requires_grad_(".lora_B." in name)
    return model.eval(), parameters, places


def _write(task: _Task) -> None:
    import torch
    from safetensors.torch import save

    file, answers = task
    rows = torch.stack(
        [row.to(torch.bfloat16) for row in gradients(_Worker.model, _Worker.parameters, _Worker.places, answers)]
    )
    write_atomically(file, save({KEY: rows}))


def gradients(
    model: Any, parameters: "list[torch.Tensor]", places: "torch.Tensor", answers: Iterable[tuple[list[int], int]]
) -> "Iterator[torch.Tensor]":
    """The gradient of the log-probability of each answer, (parameters,) float32, nats.

    Args:
        model: with `parameters` and `places`, from `with_adapter`.
        answers: tokens, and where the answer begins.
    """
    import torch

    for ids, start in answers:
        said = log_prob(model, places, ids, start, input_ids=torch.tensor([ids]))
        found = torch.autograd.grad(said, parameters)
        yield torch.cat([part.reshape(-1) for part in found])


def log_prob(
    model: Any, places: "torch.Tensor", ids: list[int], start: int, **inputs: "torch.Tensor"
) -> "torch.Tensor":
    """The log-probability of one answer, nats, a scalar.

    Args:
        model: with `places`, from `with_adapter`.
        ids: tokens of the conversation, of which the answer begins at `start`.
        inputs: what the model reads, `input_ids` or `inputs_embeds`, (1, tokens, ...).
    """
    import torch

    asked = torch.arange(start - 1, len(ids) - 1)
    logits = model(**inputs, use_cache=False, logits_to_keep=asked).logits[0].float()
    return logits.log_softmax(-1).gather(1, places[torch.tensor(ids[start:])][:, None]).sum()
