"""Answers of one model to evaluation prompts: what `ifllm generate` and `eval/generate.py` run."""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ifllm_hub.align.policies import BASE_MODELS
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.generation.model_revision import model_name, model_revision
from ifllm_hub.evaluation.generation.prompts import PromptArguments, load_prompts
from ifllm_hub.evaluation.generation.sampling import (
    Answer,
    Prompt,
    Sampling,
    check_sampling,
    transformers_answers,
    vllm_answers,
)
from ifllm_hub.evaluation.journal import Journal
from ifllm_hub.evaluation.tables import GENERATIONS, write_table
from ifllm_hub.evaluation.thoughts import without_thought

logger = logging.getLogger(__name__)

Engine = Literal["auto", "transformers", "vllm"]
Answering = Callable[[str, Sequence[Prompt], Sampling, int], Iterator[list[Answer]]]
_ANSWERING: dict[str, Answering] = {"transformers": transformers_answers, "vllm": vllm_answers}


@dataclass(kw_only=True)
class GenerateArguments(PromptArguments, Sampling):
    """Which model answers which prompts, and how."""

    model: str = field(metadata={"help": "tiny, smollm2-135m, a folder or a Hub model id."})
    output: Path = field(
        metadata={"help": "Parquet file of the answers; a cache of all answers so far is kept beside it."}
    )
    model_name: str | None = field(
        default=None, metadata={"help": "What the table calls the model; the folder's name or the Hub id if unset."}
    )
    engine: Engine = field(default="auto", metadata={"help": "auto uses vLLM if it is installed."})
    batch_size: int = field(default=8, metadata={"help": "Prompts answered together, then written to disk."})


def run_generate(args: GenerateArguments) -> pl.DataFrame:
    """Answer the prompts that are not answered yet, and write the table of all that are asked for.

    Every finished batch is written to JSON lines beside the table. An answer is identified by model revision, question,
    messages and settings, so a run that was killed continues, and a run with more prompts answers only the new ones.
    The thoughts of a reasoning model stay in those lines; the table has only its answers.

    Returns:
        `GENERATIONS`, in the order of `load_prompts`.

    Raises:
        IfllmError: a setting is out of range; every answer ends within its thought; see `load_prompts`, `load_policy`,
            `model_revision` and `Journal`.
    """
    check_sampling(args)
    if args.batch_size < 1 or args.output.suffix != ".parquet":
        raise IfllmError("batch_size must be at least 1, and output a file whose name ends in .parquet.")
    prompts = load_prompts(args)
    engine = _engine(args.engine)
    settings = _settings(args, engine)
    revision = model_revision(args.model)
    asked = {
        _key(revision, settings, prompt): prompt
        for prompt in (Prompt(row["question_id"], row["messages"]) for row in prompts.iter_rows(named=True))
    }
    with Journal(args.output.with_suffix(".jsonl"), "key") as journal:
        missing = [key for key in asked if key not in journal.records]
        logger.info("%s: %d of %d answers exist already", args.output, len(asked) - len(missing), len(asked))
        keys = iter(missing)
        for batch in _batches(args, engine, [asked[key] for key in missing]):
            journal.append([{"key": next(keys), **asdict(answer)} for answer in batch])
        answers = [journal.records[key] for key in asked]
    thinking = sum(bool(answer["text"]) and not without_thought(answer["text"]) for answer in answers)
    if thinking == len(answers):
        raise IfllmError(f"All {thinking} answers end within the model's thought. Raise max_new_tokens.")
    if thinking:
        logger.warning(
            "%d of %d answers are empty: they end within the model's thought. Raise max_new_tokens",
            thinking,
            len(answers),
        )
    table = _table(prompts, answers).with_columns(
        model=pl.lit(args.model_name or model_name(args.model)),
        model_revision=pl.lit(revision),
        settings=pl.lit(settings),
    )
    write_table(args.output, table.select(*GENERATIONS))
    return table.select(*GENERATIONS)


def _engine(engine: Engine) -> str:
    if engine != "auto":
        return engine
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


def _settings(args: GenerateArguments, engine: str) -> str:
    sampling = {name: getattr(args, name) for name in Sampling.__dataclass_fields__}
    if args.greedy:
        sampling = {"greedy": True, "max_new_tokens": args.max_new_tokens}
    # Under the name of a base policy the same weights see another text: that of the paper's chat template.
    template = "human_assistant" if args.model in BASE_MODELS else "own"
    return json.dumps({**sampling, "history": args.history, "engine": engine, "template": template}, sort_keys=True)


def _key(revision: str, settings: str, prompt: Prompt) -> str:
    text = json.dumps([revision, settings, prompt.question_id, prompt.messages])
    return hashlib.sha256(text.encode()).hexdigest()


def _batches(args: GenerateArguments, engine: str, missing: Sequence[Prompt]) -> Iterator[list[Answer]]:
    """Batches of answers as they are done, with a progress bar; the model is loaded only if any are missing."""
    from rich.progress import Progress

    if not missing:
        return
    with Progress(transient=True) as bar:
        task = bar.add_task("answers", total=len(missing))
        for batch in _ANSWERING[engine](args.model, missing, args, args.batch_size):
            yield batch
            bar.advance(task, len(batch))


def _table(prompts: pl.DataFrame, answers: Sequence[dict[str, Any]]) -> pl.DataFrame:
    columns = [
        pl.Series("answer", [without_thought(answer["text"]) for answer in answers], dtype=pl.String),
        pl.Series("finish_reason", [answer["finish_reason"] for answer in answers], dtype=pl.String),
    ]
    counts = ("prompt_tokens", "answer_tokens")
    columns += [pl.Series(name, [answer[name] for answer in answers], dtype=pl.Int32) for name in counts]
    return prompts.with_columns(columns)
