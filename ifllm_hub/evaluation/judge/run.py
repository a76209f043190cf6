"""Judging answers with a language model: what `ifllm judge` and `eval/judge.py` run.

A judgment is identified by the SHA-256 of the judge, the settings asked for and the messages it is shown. It is asked
for once: whatever comes back is on disk before the next step, so a run that was killed continues. The next run asks
again only where the server gave no answer at all (`failed`) and, if wanted, where the answer was not a verdict
(`malformed`).
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.journal import Journal
from ifllm_hub.evaluation.judge.client import Endpoint, JudgeClient, Outcome
from ifllm_hub.evaluation.judge.inputs import human_rated_pairs, pairs_of_generations, single_answers
from ifllm_hub.evaluation.judge.prompts import Form, Mode, Preset, judge_messages, response_format
from ifllm_hub.evaluation.tables import JUDGMENTS, write_table
from ifllm_hub.preferences.history import History
from ifllm_hub.terminal import shown
from ifllm_hub.terms import ORDERS, Message

logger = logging.getLogger(__name__)

# After this many questions without an answer, no other question of the run is expected to get one.
HOPELESS = 20
TEMPERATURES: dict[Preset, float] = {"corrected": 0.0, "reference": 1.0}


@dataclass(kw_only=True)
class JudgeArguments(Endpoint):
    """What is judged, how, and where the judgments go."""

    output: Path = field(metadata={"help": "Parquet file of the judgments; all raw answers so far are kept beside it."})
    model_answers: Path | None = field(
        default=None, metadata={"help": "Answers of the aligned model (ifllm generate)."}
    )
    baseline_answers: Path | None = field(default=None, metadata={"help": "Answers of what it is compared with."})
    llm: str | None = field(default=None, metadata={"help": "Which LLM was aligned: the table's column."})
    label_source: str | None = field(default=None, metadata={"help": "On whose labels: the table's row."})
    dataset: str | None = field(default=None, metadata={"help": "Judge the pairs that people rated in this dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub dataset."})
    history: History = field(default="none", metadata={"help": "With dataset: what is shown of the earlier turns."})
    pairs: int | None = field(default=None, metadata={"help": "With dataset: how many rated pairs; all if unset."})
    pair_seed: int = field(
        default=0, metadata={"help": "Which of them; with the same seed, more pairs include the fewer."}
    )
    mode: Mode = field(default="pairwise", metadata={"help": "Two answers at once, or each alone."})
    preset: Preset = field(default="corrected", metadata={"help": "reference: the paper's prompt, order and settings."})
    explanation: bool = field(default=True, metadata={"help": "The judge first says why (preset corrected)."})
    examples: int = field(
        default=0, metadata={"help": "Worked examples (0, 2 or 4) for a small judge (preset corrected)."}
    )
    temperature: float | None = field(default=None, metadata={"help": "The preset's if unset: 0, or 1 (reference)."})
    concurrency: int = field(default=4, metadata={"help": "Questions asked at the same time."})
    retry_malformed: bool = field(
        default=False, metadata={"help": "Ask again where an earlier run got text that is not a verdict."}
    )
    prompt_price: float = field(default=0.0, metadata={"help": "US dollars per million prompt tokens."})
    answer_price: float = field(default=0.0, metadata={"help": "US dollars per million answer tokens."})
    dry_run: bool = field(default=False, metadata={"help": "Show the prompt and the number of questions; ask nothing."})

    @property
    def form(self) -> Form:
        """How the judge is asked; raises IfllmError where the settings do not go together."""
        return Form(self.preset, self.mode, self.explanation, self.examples)


def run_judge(args: JudgeArguments) -> pl.DataFrame:
    """Ask for the judgments that are missing, and write the table of all.

    Preset `corrected` shows every pair in both orders; `reference` in one, which a hash of the question decides. If
    both answers are the same text, both orders are the same question, which is asked once.

    Returns:
        `JUDGMENTS`; with `dry_run` none, and nothing is asked or written.

    Raises:
        IfllmError: the settings do not go together; see `judge_inputs`, `JudgeClient` and `Journal`; or no question was
            answered, or none with a verdict (the table is written first). Earlier answers are kept.
    """
    _check(args)
    form = args.form
    planned = plan(args, _pairs(args))
    shown = _shown(planned, form)
    settings, judge = _settings(args), args.judge_name or args.judge
    planned = planned.with_columns(
        judgment_id=pl.Series([_id(judge, settings, messages) for messages in shown], dtype=pl.String)
    )
    questions = dict(zip(planned["judgment_id"], shown, strict=True))
    if args.dry_run:
        _show(args, questions)
        return pl.DataFrame(schema=JUDGMENTS)
    with Journal(args.output.with_suffix(".jsonl"), "judgment_id") as journal:
        again = {"failed", *(("malformed",) if args.retry_malformed else ())}
        missing = [key for key in questions if journal.records.get(key, {}).get("status", "failed") in again]
        logger.info("%s: %d of %d judgments exist already", args.output, len(questions) - len(missing), len(questions))
        _ask(args, questions, missing, journal)
        records = {key: journal.records[key] for key in questions}
    table = _table(planned, records, settings).with_columns(
        mode=pl.lit(args.mode), preset=pl.lit(args.preset), judge=pl.lit(judge)
    )
    table = table.select(*JUDGMENTS)
    write_table(args.output, table)
    logger.info("%s: %s", args.output, summary(list(records.values()), args.prompt_price, args.answer_price))
    for error in table.filter(pl.col("status") == "failed")["error"].head(1):
        logger.warning("Run this again to retry those that failed; the first error: %s", error)
    if "malformed" in table["status"]:
        logger.info("--retry-malformed asks again where the answer was malformed")
    if args.mode == "pairwise":
        _measure(args, table)
    if "ok" not in table["status"]:
        why = table["error"][0].partition("; then ")[0]  # later attempts usually fail in the same way
        raise IfllmError(
            f"{args.output}: holds no verdict, only errors; the first: {why}. Correct that, show the judge worked "
            f"examples (--examples 4), or ask another judge; once the server is fixed, add --retry-malformed."
        )
    return table


def plan(args: JudgeArguments, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row per question to the judge: `COLUMNS` and `order`, the orders of a pair one after the other."""
    if args.mode == "single":
        return pairs.with_columns(order=pl.lit(None, pl.String))
    if args.preset == "reference":
        return pairs.with_columns(
            order=pl.Series([_coin(question) for question in pairs["question_id"]], dtype=pl.String)
        )
    return pairs.with_columns(order=pl.lit(list(ORDERS), pl.List(pl.String))).explode("order")


def summary(records: list[dict[str, Any]], prompt_price: float, answer_price: float) -> str:
    """Counts of each status, tokens, and their cost in US dollars, given the prices per million tokens."""
    counts = ", ".join(f"{count} {status}" for status, count in Counter(one["status"] for one in records).most_common())
    known = [one for one in records if one["prompt_tokens"] is not None and one["answer_tokens"] is not None]
    prompt, answer = (sum(one[name] for one in known) for name in ("prompt_tokens", "answer_tokens"))
    unknown = f" ({len(records) - len(known)} without token counts)" if len(known) < len(records) else ""
    cost = (prompt * prompt_price + answer * answer_price) / 1e6
    price = f", ${cost:.4f}" if cost else ""
    return f"{counts}; {prompt} prompt and {answer} answer tokens{price}{unknown}"


def _check(args: JudgeArguments) -> None:
    if args.output.suffix != ".parquet" or min(args.concurrency, args.attempts, args.max_tokens) < 1:
        raise IfllmError("output must end in .parquet; concurrency, attempts and max_tokens must be at least 1.")
    if args.base_url and args.provider:
        raise IfllmError("base_url names a server, and provider one of the Hub's. Give one of them.")


def _pairs(args: JudgeArguments) -> pl.DataFrame:
    if (args.dataset is None) == (args.model_answers is None):
        raise IfllmError(
            "Give either model_answers, to judge a model, or dataset, to judge the pairs that people rated."
        )
    if (args.mode == "single") != (args.dataset is None and args.baseline_answers is None):
        raise IfllmError("Mode single judges model_answers alone; mode pairwise needs baseline_answers or dataset.")
    if args.dataset is not None:
        return human_rated_pairs(args.dataset, args.dataset_revision, args.history, args.pairs, args.pair_seed)
    if args.model_answers is None or args.llm is None or args.label_source is None:
        raise IfllmError("Say with llm and label_source which cell of the table these answers belong to.")
    if args.baseline_answers is None:
        return single_answers(args.model_answers, args.llm, args.label_source)
    return pairs_of_generations(args.model_answers, args.baseline_answers, args.llm, args.label_source)


def _coin(question: int) -> str:
    """The one order in which the reference preset shows a question; the same in every run."""
    return ORDERS[hashlib.sha256(f"order:{question}".encode()).digest()[0] % 2]


def _shown(planned: pl.DataFrame, form: Form) -> list[list[Message]]:
    shown = []
    for row in planned.iter_rows(named=True):
        answers = [row["answer_model"]] if row["order"] is None else [row["answer_model"], row["answer_baseline"]]
        ordered = answers[::-1] if row["order"] == "baseline_first" else answers
        shown.append(judge_messages(form, row["messages"], ordered))
    return shown


def _temperature(args: JudgeArguments) -> float:
    return TEMPERATURES[args.preset] if args.temperature is None else args.temperature


def _settings(args: JudgeArguments) -> str:
    return json.dumps(
        {
            "temperature": _temperature(args),
            "max_tokens": args.max_tokens,
            **args.form.settings,
            "structured": args.structured and args.preset == "corrected",
            "provider": args.provider,
        },
        sort_keys=True,
    )


def _id(judge: str, settings: str, messages: list[Message]) -> str:
    return hashlib.sha256(json.dumps([judge, settings, messages]).encode()).hexdigest()


def _show(args: JudgeArguments, questions: dict[str, list[Message]]) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, soft_wrap=True)
    for message in next(iter(questions.values())):
        console.rule(message["role"])
        console.print(shown(message["content"]))
    console.rule()
    if args.structured and args.preset == "corrected":
        console.print(f"response_format: {json.dumps(response_format(args.form))}")
    console.print(f"{len(questions)} judgments by {shown(args.judge)}, settings {_settings(args)}; this is the first.")


def _measure(args: JudgeArguments, table: pl.DataFrame) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from ifllm_hub.evaluation.judge.quality import judge_quality, quality_markdown, write_quality  # loads scikit-learn

    preferences = None if args.dataset is None else load_config(args.dataset, "pairwise", args.dataset_revision)
    qualities = judge_quality(table, preferences)
    write_quality(args.output, qualities)
    Console().print(Markdown(shown(quality_markdown(qualities))))


def _ask(args: JudgeArguments, questions: dict[str, list[Message]], missing: list[str], journal: Journal) -> None:
    """Ask from several threads; each answer is in the journal before its thread asks the next question.

    Raises:
        IfllmError: none of the first questions, nor any before them, was answered.
    """
    if not missing:
        return
    client = JudgeClient(args, args.form, _temperature(args))
    answered = any(journal.records.get(key, {}).get("status", "failed") != "failed" for key in questions)

    def ask(key: str) -> Outcome:
        outcome = client.ask(questions[key])
        record = asdict(outcome) | {
            "judgment_id": key,
            "asked_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        journal.append([record])
        return outcome

    with ThreadPoolExecutor(args.concurrency) as threads:
        futures = [threads.submit(ask, key) for key in missing]
        try:
            for number, future in enumerate(_with_bar(futures), start=1):
                outcome = future.result()
                answered = answered or outcome.status != "failed"
                if not answered and number == min(len(missing), HOPELESS):
                    raise IfllmError(
                        f"{client.where}: none of {number} questions was answered; the last: {outcome.error}. Correct "
                        "that, then run this again; it continues from there."
                    )
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _with_bar(futures: list[Any]) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    ) as bar:
        task = bar.add_task("judging", total=len(futures))
        for future in as_completed(futures):
            yield future
            bar.advance(task)


def _table(planned: pl.DataFrame, records: dict[str, dict[str, Any]], settings: str) -> pl.DataFrame:
    """`planned` with the result of each question, with positions translated back to model and baseline.

    A question without any answer gets the settings under which the others were answered.
    """
    known = {name for record in records.values() if record["status"] != "failed" for name in record["refused"]}
    rows = []
    for key, order in planned.select("judgment_id", "order").iter_rows():
        record = records[key]
        refused = known if record["status"] == "failed" else record["refused"]
        rows.append(_result(record, order) | {"judge_settings": _sent(settings, refused)})
    results = pl.DataFrame(rows, schema={name: JUDGMENTS[name] for name in rows[0]})
    return planned.hstack(results)


def _sent(settings: str, refused: Collection[str]) -> str:
    """The settings as they were sent to a server that refuses some of them."""
    sent = json.loads(settings)
    if "max_tokens" in refused:
        sent["max_completion_tokens"] = sent.pop("max_tokens")
    if "temperature" in refused:
        sent["temperature"] = None
    if "response_format" in refused:
        sent["structured"] = False
    return json.dumps(sent, sort_keys=True)


def _result(record: dict[str, Any], order: str | None) -> dict[str, Any]:
    verdict = record["verdict"] or {"scores": (), "winner": None, "explanation": None}
    sides = ("baseline", "model") if order == "baseline_first" else ("model", "baseline")
    scores = dict(zip(sides, verdict["scores"], strict=False))
    named = {"first": sides[0], "second": sides[1], "tie": "tie", None: None}
    return {
        "status": record["status"],
        "score_model": scores.get("model"),
        "score_baseline": scores.get("baseline"),
        "winner": named[verdict["winner"]],
        "explanation": verdict["explanation"],
        **{name: record[name] for name in ("raw", "error", "attempts", "prompt_tokens", "answer_tokens")},
        "asked_at": datetime.fromisoformat(record["asked_at"]),
    }
