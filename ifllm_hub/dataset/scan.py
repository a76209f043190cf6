"""A search of a dataset's free text for personal data: a list to review, and counts in the report and the card."""

from pathlib import Path

import polars as pl

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import FoundText, read_manifest, write_manifest
from ifllm_hub.dataset.privacy.pii import CANNOT_FIND, find_personal_data, scanner_info
from ifllm_hub.dataset.privacy.report import read_privacy_report, save_privacy_report
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically
from ifllm_hub.terms import Advance


def scan_dataset(folder: Path, out: Path, show_text: bool = False, advance: Advance | None = None) -> pl.DataFrame:
    """Search queries and answers for personal data: a list to review in `out`, and counts in the report and the card.

    Args:
        folder: a dataset folder with a privacy report, or one that a collector exported: its counts go to the manifest.
        out: CSV file to write, outside the folder: `config`, `question_id`, `column`, `entity`, `score` (0-1), `start`
            and `end` (code points).
        show_text: add the matched `text`, and with it the personal data, to the list.
        advance: called with the share done (0-1).

    Returns:
        The list, with `text`.

    Raises:
        IfllmError: the extra `privacy` is not installed, the folder is not a dataset, or `out` cannot be written or
            would be published with the folder.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise IfllmError(f"{out}: lies in the dataset folder and would be published with it. Choose another place.")
    manifest = read_manifest(folder)
    report = read_privacy_report(folder) if "release_sha256" in manifest else None
    how = scanner_info()
    texts = free_text(folder)
    findings = find_personal_data(texts, advance)
    write_atomically(out, findings.drop([] if show_text else "text").write_csv())
    counts = findings.group_by("column", "entity").len().sort("column", "entity").iter_rows()
    found: FoundText = {
        **how,
        "cannot_find": CANNOT_FIND,
        "texts": texts.height,
        "found": [{"column": column, "entity": entity, "found": number} for column, entity, number in counts],
    }
    if report:
        report["free_text"] = found
        save_privacy_report(folder, report)
    elif "release_sha256" not in manifest:
        manifest["free_text"] = found
        write_manifest(folder, manifest)
    write_card(folder)
    return findings


def free_text(folder: Path) -> pl.DataFrame:
    """Queries and answers of a dataset folder: `config`, `question_id`, `column`, `text`; `messages` repeat them.

    Raises:
        IfllmError: the folder is not a dataset.
    """
    columns = {"pairwise": ("query", "response_left", "response_right"), "pointwise": ("query", "response")}
    parts = [
        load_config(folder, config).select(
            pl.lit(config).alias("config"), "question_id", pl.lit(column).alias("column"), pl.col(column).alias("text")
        )
        for config, names in columns.items()
        for column in names
    ]
    return pl.concat(parts).sort("question_id", "column")
