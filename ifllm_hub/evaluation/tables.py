"""The tables that evaluation hands from stage to stage, as Parquet: their columns, and how they are read and written.

A question's `question_id` and `worker_id` are those of the dataset. Texts are as the model wrote them; nothing here
escapes them.
"""

from pathlib import Path

import polars as pl

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.evaluation.thoughts import without_thought
from ifllm_hub.files import read_parquet, write_parquet

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

# One row per answer. A file holds the answers of one model under one set of settings.
GENERATIONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "messages": MESSAGES,  # what the model was given; the last is the user's
    "model": pl.String,  # a folder's name or a Hub id
    "model_revision": pl.String,  # Hub commit, or SHA-256 of the weights in the folder
    "settings": pl.String,  # JSON, sorted keys: sampling settings, seed, history
    "answer": pl.String,  # without the thought of a reasoning model
    "finish_reason": pl.String,  # `stop`, or `length` where max_new_tokens cut it
    "prompt_tokens": pl.Int32,
    "answer_tokens": pl.Int32,  # of thought and answer
}

# One row per question put to a judge; whatever came back is kept.
JUDGMENTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "judgment_id": pl.String,  # SHA-256 of the judge, the settings asked for and all it was shown, in order
    "mode": pl.String,  # `pairwise`, or `single`: one answer alone, then no baseline
    "preset": pl.String,  # `corrected`, or `reference`: the paper's
    "judge": pl.String,
    "judge_settings": pl.String,  # JSON, sorted keys: temperature, tokens, prompt version as sent; no secrets
    "llm": pl.String,  # which base LLM was aligned: the column of the paper's table
    "label_source": pl.String,  # whose labels it was aligned on: the row of the paper's table
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "messages": MESSAGES,
    "model": pl.String,  # the aligned model
    "model_revision": pl.String,
    "answer_model": pl.String,
    "baseline": pl.String,  # the model it is compared with: its own SFT
    "baseline_revision": pl.String,
    "answer_baseline": pl.String,
    "order": pl.String,  # `model_first` or `baseline_first`; null for `single`
    "status": pl.String,  # `ok`, or why there are no scores: `malformed`, `refused`, `truncated`, `failed`
    "score_model": pl.Float64,  # 1 to 10, null unless `ok`
    "score_baseline": pl.Float64,
    "winner": pl.String,  # as the judge named it: `model`, `baseline`, `tie`; null unless `ok`, and for `single`
    "explanation": pl.String,
    "raw": pl.String,  # the judge's last answer as received; null if there was none
    "error": pl.String,  # what was wrong with it, for a person
    "attempts": pl.Int32,
    "prompt_tokens": pl.Int32,  # of all attempts; null where the server does not say
    "answer_tokens": pl.Int32,
    "asked_at": pl.Datetime("ms", "UTC"),
}

# One row per person and pair of answers.
RATINGS: dict[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,  # one item is one question with two answers
    "rater_id": pl.String,  # a pseudonym
    "llm": pl.String,
    "label_source": pl.String,
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "messages": MESSAGES,
    "model": pl.String,
    "model_revision": pl.String,
    "answer_model": pl.String,
    "baseline": pl.String,
    "baseline_revision": pl.String,
    "answer_baseline": pl.String,
    "order": pl.String,
    "comparison": pl.Int8,  # +3 (the model's is much better) to -3
    "claim_model": pl.String,  # copied from the answer by the rater, to look up; null if nothing can be looked up
    "claim_baseline": pl.String,
    "claim_url_model": pl.String,
    "claim_url_baseline": pl.String,
    "claim_evidence_model": pl.String,
    "claim_evidence_baseline": pl.String,
    "claim_supported_model": pl.Boolean,
    "claim_supported_baseline": pl.Boolean,
    "errors_model": pl.Int8,  # 0 none, 1 one, 2 more
    "errors_baseline": pl.Int8,
    "informativeness_model": pl.Int8,  # 1 to 5
    "informativeness_baseline": pl.Int8,
    "relevance_model": pl.Int8,  # 1 to 4
    "relevance_baseline": pl.Int8,
    "overall_model": pl.Int8,  # 1 to 5
    "overall_baseline": pl.Int8,
    "comment": pl.String,
}


def read_table(file: Path, columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """Read a table and check its columns.

    Raises:
        IfllmError: the file does not exist, is not Parquet, or has a column missing or of another type.
    """
    try:
        table = read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{file}: cannot be read as Parquet ({first_line(error)}). Make it again.") from error
    for name, type_ in columns.items():
        if name not in table.columns:
            raise IfllmError(f"{file}: lacks the column {name!r}. Make it again with this version.")
        if table.schema[name] != type_:
            raise IfllmError(f"{file}: {name} is {table.schema[name]}, not {type_}. Make it again with this version.")
    return table.select(*columns)


def read_generations(file: Path) -> pl.DataFrame:
    """`GENERATIONS`, without the thoughts that other tools leave in answers.

    Raises:
        IfllmError: see `read_table`.
    """
    return read_table(file, GENERATIONS).with_columns(
        pl.col("answer").map_elements(without_thought, return_dtype=pl.String)
    )


def write_table(file: Path, table: pl.DataFrame) -> None:
    """Write a table as Parquet, whole or not at all; its folder is created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(file, table)
