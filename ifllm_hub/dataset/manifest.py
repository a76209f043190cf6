"""What the cards read in `manifest.json` and `privacy_report.json`, so that a damaged one is told in one sentence."""

from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json

MANIFEST = "manifest.json"
REPORT = "privacy_report.json"
# Configs that are built from a release, by tier. `full` is meant for a gated repo.
TIERS = {
    "coarse": ("pairwise", "pointwise", "coarse"),
    "public": ("pairwise", "pointwise", "features"),
    "full": ("pairwise", "pointwise", "trajectories", "features"),
}

_TABLES = (
    "clock_4h_corrected",
    "rows_with_cr_lf_removed",
    "identical_rows_dropped",
    "duplicate_task_rows",
    "duplicate_record_rows",
    "unanswered_dropped",
    "without_consent_dropped",
    "without_date",
    "ai_errors",
)
_COUNTED = ("all", "pairwise", "pointwise", "with_on_text_behavior", "with_on_text_behavior_without_excluded_workers")
_COUNT = {"questions": int, "workers": int, "conversations": int}
_LINES = dict.fromkeys(("files", "lines", "ticks", "duplicates", "quarantined", "unaccounted"), int)
_TICKS = ("ticks", "on_a_question", "before_the_first_answer", "conversation_without_questions")
# Keys and the types of their values; a list's entries are all alike.
_BUILT: dict[str, Any] = {
    "ifllm_hub": str,
    "release_sha256": str,
    "is_the_released_data": bool,
    "withdrawn": {"workers": int},
    "tables": dict.fromkeys(_TABLES, int),
    "questions": {**dict.fromkeys(_COUNTED, _COUNT), "share_of_five_largest_workers": float},
    "lines": {"abs": _LINES, "rel": _LINES},
    "ticks": dict.fromkeys(_TICKS, int),
    "carets": [{"schema_version": str, "status": str, "ticks": int}],
}
_COLLECTED: dict[str, Any] = {
    "ifllm_hub": str,
    "people": int,
    "conversations": int,
    "questions": {"pairwise": int, "pointwise": int},
    "erased_later": int,
    "ticks": {"received": int},
}
_K = {"quasi_identifiers": [str], "k": int, "workers_below_5": float, "workers_alone": float}
_PRIVACY: dict[str, Any] = {"workers": int, "k_anonymity": {**_K, "statement": str}}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset folder, of a build or of a collector's export (which has the key `collected`).

    Raises:
        IfllmError: it is missing or damaged, or lacks what the card says.
    """
    path = folder / MANIFEST
    manifest: dict[str, Any] = read_json(path)
    _check(manifest, {"tier": str}, path)
    if manifest["tier"] not in TIERS:
        raise IfllmError(f"{path}: there is no tier '{manifest['tier']}'. Choose one of: {', '.join(TIERS)}.")
    _check(manifest, _COLLECTED if "collected" in manifest else _BUILT, path)
    return manifest


def read_privacy_report(folder: Path) -> dict[str, Any]:
    """The privacy report of a dataset folder.

    Raises:
        IfllmError: it is missing or damaged, or lacks what the card says.
    """
    report: dict[str, Any] = read_json(folder / REPORT)
    _check(report, _PRIVACY, folder / REPORT)
    return report


def _check(value: Any, wanted: Any, path: Path, key: str = "") -> None:
    kind = type(wanted) if isinstance(wanted, (dict, list)) else wanted
    fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not fits:
        raise IfllmError(f"{path}: {f'`{key}` is' if key else 'is'} missing or damaged. Build the dataset again.")
    if isinstance(wanted, dict):
        for name, inner in wanted.items():
            _check(value.get(name), inner, path, f"{key}.{name}" if key else name)
    elif isinstance(wanted, list):
        for number, entry in enumerate(value):
            _check(entry, wanted[0], path, f"{key}[{number}]")
