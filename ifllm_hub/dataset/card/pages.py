"""The dataset card: templates plus what is in the folder -> README.md, features.md, datasheet.md, croissant.json.

Numbers in them come from the manifest, the privacy report and the Parquet files, columns from `schema.py`; sentences
about the study's site are in the templates, and state nothing that could be counted.
"""

import json
import math
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from ifllm_hub.dataset.card.croissant import croissant
from ifllm_hub.dataset.card.definitions import FEATURES_FILE, definitions
from ifllm_hub.dataset.card.figures import draw_figures
from ifllm_hub.dataset.contents import CONTENTS, Contents, card_configs, contents_of
from ifllm_hub.dataset.label_worth import decisions, worth_of, worth_table
from ifllm_hub.dataset.layout import parquet_paths
from ifllm_hub.dataset.load import footer, load_config, scan_config
from ifllm_hub.dataset.manifest import OWN_COLUMNS, Collected, Imported, read_manifest
from ifllm_hub.dataset.meanings import COLLECTED, IMPORTED
from ifllm_hub.dataset.privacy.report import read_privacy_report
from ifllm_hub.dataset.schema import PREFIX, SPLITS, Column, columns, label_source_of, row_is
from ifllm_hub.files import shipped_folder, write_atomically
from ifllm_hub.pages.web_page import templates
from ifllm_hub.sources.ifllm.accounts import CaretCounts
from ifllm_hub.sources.ifllm.questions import excluded_workers
from ifllm_hub.terms import SIDES

if TYPE_CHECKING:
    from jinja2 import Environment

# Stands for the Hub repo until it has a name.
PLACEHOLDER = "ORG/ifllm"

_HEAD = {
    "pretty_name": "IFLLM: implicit feedback on LLM answers",
    "language": ["en"],
    "license": "apache-2.0",
    "annotations_creators": ["crowdsourced"],
    "language_creators": ["crowdsourced", "machine-generated"],
    "multilinguality": ["monolingual"],
    "source_datasets": ["original"],
    "task_categories": ["text-generation", "tabular-classification"],
    "tags": [
        "preference",
        "implicit-feedback",
        "human-feedback",
        "multi-turn",
        "mouse-tracking",
        "eye-tracking",
        "dpo",
        "reward-model",
        "arxiv:2606.20482",
    ],
}
# A collector's data is not the study's: neither its license, its language nor its annotators are known here.
_COLLECTED_HEAD = {
    "pretty_name": "Collected implicit feedback on LLM answers",
    "license": "other",
    "annotations_creators": ["found"],
    "language_creators": ["found", "machine-generated"],
    "task_categories": ["text-generation", "tabular-classification"],
    "tags": ["preference", "implicit-feedback", "human-feedback", "mouse-tracking", "dpo", "reward-model"],
}
# What is not known of all sources; the rest is in their `Facts`.
_IMPORTED_HEAD = {
    "task_categories": ["text-generation", "tabular-classification"],
    "tags": ["preference", "human-feedback", "dpo"],
}
# What `label_worth.decisions` reads.
_DECIDED = ("label_source", "question_id", "worker_id", "chosen", "flip_prob")
# What the example row does not show.
_IDS = ("question_id", "worker_id", "conversation_id", "task_id", "asked_at")


def write_card(folder: Path, repo_id: str = PLACEHOLDER, redraw: bool = True) -> None:
    """Write the card of a dataset folder from its manifest, privacy report and Parquet files; again after any change.

    Writes README.md, features.md, datasheet.md, contents.json, croissant.json and figures/*.png, the same bytes for
    the same folder.

    Args:
        repo_id: where it is published (owner/name), for the code on the card.
        redraw: draw the figures anew, too; without, those that are missing.

    Raises:
        IfllmError: the manifest, the privacy report or a Parquet file is missing or damaged, or the folder cannot be
            written.
    """
    manifest = read_manifest(folder)
    contents = contents_of(folder)
    if "collected" in manifest:
        _write_other_card(folder, manifest, contents, repo_id, "collected.md.jinja", _COLLECTED_HEAD, COLLECTED)
        return
    if "imported" in manifest:
        head = {**_IMPORTED_HEAD, "pretty_name": manifest["imported"]["title"]}
        head["license"] = manifest["imported"]["license"]
        _write_other_card(folder, manifest, contents, repo_id, "imported.md.jinja", head, IMPORTED)
        return
    pairs = load_config(folder, "pairwise")
    questions = _questions(folder, pairs)
    said: dict[str, Any] = {
        "manifest": manifest,
        "tier": manifest["tier"],
        "withdrawn": manifest["withdrawn"]["workers"],
        "privacy": read_privacy_report(folder),
        "data": _observed(folder, contents, questions, pairs),
        "contents": contents,
        "worth": _worth(folder, contents),
        "row_is": {config: row_is(config) for config in contents},
        "repo_id": repo_id,
        "placeholder": PLACEHOLDER,
        "features_file": FEATURES_FILE,
    }
    said["facts"] = facts = yaml.safe_load(_template("facts.yaml.jinja").render(said))
    read = load_config(folder, "features").drop("worker_id") if "features" in contents else None
    body = _template("README.md.jinja").render(
        said,
        figures=draw_figures(folder, questions, read, redraw),
        columns=_column_tables(folder, contents),
        example=_example(pairs) if "pairwise" in contents else None,
    )
    gate = _gate(said) if manifest["tier"] == "full" else {}
    _write_readme(folder, _HEAD, contents, gate, body)
    write_atomically(folder / FEATURES_FILE, _template("features.md.jinja").render(said, **definitions()))
    datasheet = _template("datasheet.md.jinja").render(said, carets=_carets(manifest["carets"]))
    write_atomically(folder / "datasheet.md", datasheet)
    citation = (shipped_folder("dataset_card") / "citation.bib").read_text(encoding="utf-8")
    url = None if repo_id == PLACEHOLDER else f"https://huggingface.co/datasets/{repo_id}"
    write_atomically(
        folder / "croissant.json", croissant(folder, list(contents), manifest, facts, said["data"], citation, url)
    )


def _write_other_card(
    folder: Path,
    manifest: Collected | Imported,
    contents: Contents,
    repo_id: str,
    template: str,
    head: dict[str, Any],
    otherwise: dict[str, Column],
) -> None:
    """README.md and features.md of a folder that was collected or imported, to which the study's facts do not apply.

    Args:
        head: of the YAML header.
        otherwise: see `_column_tables`.
    """
    said = {"manifest": manifest, "tier": manifest["tier"], "contents": contents}
    body = _template(template).render(
        said,
        row_is={config: row_is(config) for config in contents},
        worth=_worth(folder, contents),
        repo_id=repo_id,
        placeholder=PLACEHOLDER,
        columns=_column_tables(folder, contents, otherwise),
        features_file=FEATURES_FILE,
        own_columns=pl.read_parquet_schema(own) if (own := folder / OWN_COLUMNS).is_file() else (),
    )
    _write_readme(folder, head, contents, _gate(said), body)
    write_atomically(folder / FEATURES_FILE, _template("features.md.jinja").render(said, **definitions()))


def _write_readme(folder: Path, head: dict[str, Any], contents: Contents, gate: dict[str, Any], body: str) -> None:
    """Write README.md, whose YAML header says only what the Hub asks for, and contents.json."""
    rows = sum(rows for entry in contents.values() for rows in entry["rows"].values())
    whole = {**head, "size_categories": [_size_category(rows)], **gate, "configs": card_configs(contents)}
    written = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(folder / "README.md", f"---\n{written}---\n\n{body}")
    write_atomically(folder / CONTENTS, json.dumps(contents, indent=1) + "\n")


def _gate(said: dict[str, Any]) -> dict[str, Any]:
    """What the Hub shows to people who ask for access."""
    return dict(yaml.safe_load(_template("gate.yaml.jinja").render(said)))


def _size_category(rows: int) -> str:
    """The Hub's category for a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
    return next((name for power, name in enumerate(names, start=3) if rows < 10**power), "n>100M")


def _column_tables(
    folder: Path, contents: Contents, otherwise: dict[str, Column] | None = None
) -> dict[str, list[tuple[Column, str]]]:
    """The columns of each config except `features`, and the share of their values that is null.

    The preference configs, which have the same columns, share one table.

    Args:
        otherwise: columns that replace those of the schema.
    """
    tables: dict[str, list[str]] = {}
    for config in contents:
        if config != "features":
            tables.setdefault(f"{PREFIX}*" if label_source_of(config) else config, []).append(config)
    listed = {}
    for name, configs in tables.items():
        nulls = _nulls(folder, configs)
        own = [(otherwise or {}).get(column.name, column) for column in columns(configs[0])]
        listed[name] = [(column, nulls[column.name]) for column in own if column.name in nulls]
    return listed


def _nulls(folder: Path, configs: list[str]) -> dict[str, str]:
    """By column, the share of its values (in lists: of their entries) that is null, from the files' footers."""
    counts: dict[str, list[float]] = {}
    for config, split in product(configs, SPLITS):
        for metadata in (footer(path, config) for path in parquet_paths(folder, config, split)):
            for group, number in product(range(metadata.num_row_groups), range(metadata.num_columns)):
                chunk = metadata.row_group(group).column(number)
                total = counts.setdefault(chunk.path_in_schema.split(".")[0], [0, 0])
                # Our own files record the number of nulls; NaN where it is missing.
                total[0] += chunk.statistics.null_count if chunk.is_stats_set else math.nan
                total[1] += chunk.num_values
    return {name: _share(nulls, values) for name, (nulls, values) in counts.items()}


def _share(part: float, whole: float) -> str:
    """Rounded, but never to none or all."""
    if math.isnan(part):
        return "not known"
    if part in (0, whole):
        return "all" if part else ""
    return f"{min(max(part / whole, 0.001), 0.999):.1%}"


def _example(pairs: pl.DataFrame) -> str:
    """The first row of `pairwise` as JSON. Anybody can read the card of a gated repo, so it must not lead to a person.

    Nor are the lengths of texts shown: three of them single out one row of the authors' release.
    """
    row = pairs.drop("split").row(0, named=True)
    shown = {name: "…" if name in _IDS else _shown(value, name) for name, value in row.items()}
    lines = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _shown(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [{"role": message["role"], "content": "…"} for message in value]
    return "…" if name.startswith(("query", "response")) else value


def _questions(folder: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row per question of either mode, without the messages."""
    single = {"response": "response_left", "model": "model_left", "rating": "rating_left"}
    parts = [pairs, load_config(folder, "pointwise").rename(single)]
    wanted = (
        "^(question_id|worker_id|split|asked_at|preference|bullet_points|excluded_worker"
        "|(response|model|rating)_(left|right))$"
    )
    return pl.concat([part.select(wanted) for part in parts], how="diagonal")


def _observed(folder: Path, contents: Contents, questions: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, Any]:
    """What the card says about the rows: dates, LLMs, ratings, how often the longer answer won, and the ticks' rate."""
    models = pl.concat([questions["model_left"], questions["model_right"].drop_nulls()]).value_counts()
    left, right = (pl.col(f"response_{side}").str.len_chars() for side in SIDES)
    rated = questions.filter(pl.col("preference").is_not_null() & (left != right))
    longer = rated.select((left > right) == (pl.col("preference") == "left")).to_series().mean()
    days = questions["asked_at"].drop_nulls().dt.strftime("%Y-%m-%d").sort()
    ratings = pl.concat([questions["rating_left"], questions["rating_right"]]).drop_nulls()
    return {
        "first": days.first(),
        "last": days.last(),
        "models": dict(models.sort("count", "model_left", descending=[True, False]).iter_rows()),
        "rated_pairs": rated.height,
        "longer_preferred": longer,
        "high_ratings": (ratings >= 4).mean(),
        "bullet_points": questions["bullet_points"].mean(),
        "excluded": questions.filter("excluded_worker")["worker_id"].n_unique(),
        "excluded_listed": len(excluded_workers()),
        "left_out": _left_out(folder, contents, pairs),
        "intervals": _intervals(folder) if "trajectories" in contents else None,
    }


def _left_out(folder: Path, contents: Contents, pairs: pl.DataFrame) -> dict[str, int]:
    """How many pairs are in no preference config, by the first reason that applies."""
    configs = [config for config in contents if label_source_of(config)]
    if not configs:
        return {}
    used = pl.concat([load_config(folder, config).select("question_id") for config in configs])
    rest = pairs.join(used, on="question_id", how="anti")
    why = (
        pl.when("ai_error")
        .then(pl.lit("with an error message"))
        .when(~pl.col("has_mouse") & ~pl.col("has_gaze"))
        .then(pl.lit("without mouse or gaze on a text"))
        .when("excluded_worker")
        .then(pl.lit("of excluded workers"))
        .otherwise(pl.lit("others"))
    )
    counts = rest.group_by(why=why).len().sort("len", "why", descending=[True, False])
    return dict(counts.iter_rows())


def _worth(folder: Path, contents: Contents) -> list[tuple[str, ...]]:
    """What the labels of each source are worth, as cells of a table."""
    configs = [config for config in contents if label_source_of(config)]
    read = (rows for config in configs for rows in scan_config(folder, config, _DECIDED))
    return worth_table(worth_of(pl.concat(map(decisions, read)))) if configs else []


def _intervals(folder: Path) -> dict[str, int] | None:
    """The least, the median and the largest of the questions' median times between two ticks, ms."""
    times = scan_config(folder, "trajectories", ["t"])
    medians = pl.concat([rows["t"].list.diff().list.median() for rows in times]).drop_nulls()
    if medians.is_empty():
        return None
    return {name: round(getattr(medians, name)()) for name in ("min", "median", "max")}


def _carets(carets: list[CaretCounts]) -> list[dict[str, Any]]:
    """Per schema version, and for all: the number of recorded carets, and the share with each status."""
    versions: dict[str, dict[str, int]] = {}
    for row in sorted(carets, key=lambda row: row["schema_version"]):
        for version in (row["schema_version"], "all"):
            statuses = versions.setdefault(version, {})
            statuses[row["status"]] = statuses.get(row["status"], 0) + row["ticks"]
    versions["all"] = versions.pop("all", {})
    return [
        {
            "version": version,
            "carets": (total := sum(statuses.values())),
            "share": {status: n / total for status, n in statuses.items()},
        }
        for version, statuses in versions.items()
    ]


def _template(name: str) -> Any:
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    # Markdown, filled only from the folder.
    return templates(shipped_folder("dataset_card"), escape=False)
