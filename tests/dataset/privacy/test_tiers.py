"""Who is left out is in no byte of any tier."""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from datasets import get_dataset_config_names, load_dataset

from ifllm_hub import cli
from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.coarse import coarse
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import TIERS
from ifllm_hub.dataset.privacy.consent import check_workers, read_withdrawn
from ifllm_hub.dataset.privacy.report import REPORT
from ifllm_hub.dataset.schema import CONFIGS
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import study
from ifllm_hub.sources.ifllm.study import known_workers
from tests.dataset.privacy.marked import (
    DEMOGRAPHICS,
    FREE_TEXT,
    SECRET,
    UNKNOWN,
    Marked,
    saved,
)
from tests.docs.snippets import run


def words_of(folder: Path) -> str:
    """Every byte of the folder, and every value of its Parquet files."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    values = [pl.read_parquet(path).write_ndjson() for path in paths if path.suffix == ".parquet"]
    return "\n".join([*(path.read_bytes().decode("latin-1") for path in paths), *values])


def test_nothing_that_is_not_released_is_in_any_file(folder: Path, marked: Marked) -> None:
    for path in marked.release.paths():
        if path.name.startswith("rel_") or path.name in ("record_info_table.csv", "task_table.csv"):
            assert SECRET in path.read_text(encoding="utf-8")
    words = words_of(folder)
    assert SECRET not in words
    columns = {name for path in folder.glob("data/*/*.parquet") for name in pl.read_parquet_schema(path)}
    assert not columns & {*DEMOGRAPHICS, *FREE_TEXT, "consent", "window", "accuracy", "domain"}


def test_who_refused_or_withdrew_is_in_no_file(folder: Path, before: Path, marked: Marked) -> None:
    words = words_of(folder)
    assert marked.refused not in words
    assert marked.withdrawn not in words
    assert UNKNOWN not in words
    # The search does find who is there.
    assert marked.withdrawn in words_of(before)
    assert all(worker in words for worker in load_config(folder, "pairwise")["worker_id"].unique())


def test_the_public_tier_is_the_full_one_without_trajectories(folder: Path, tier: str, before: Path) -> None:
    assert saved(folder, "manifest.json")["tier"] == saved(folder, REPORT)["tier"] == tier
    assert {path.name for path in (folder / "data").iterdir()} == set(TIERS[tier])
    assert set(TIERS["full"]) - set(TIERS["public"]) == {"trajectories"}
    assert "preferences" not in TIERS["full"]  # they come from labels
    assert set(get_dataset_config_names(str(folder))) == set(TIERS[tier])
    for config in TIERS[tier]:
        loaded = load_dataset(str(folder), config)
        assert sum(split.num_rows for split in loaded.values()) == load_config(folder, config).height > 0


def test_the_card_of_a_tier_says_what_it_protects(folder: Path, tier: str) -> None:
    text = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert f"This is the {tier} tier" in text
    assert "no tier protects against a join with the authors' public release" in text
    assert ("extra_gated_prompt" in text) == (tier == "full")
    report = saved(folder, REPORT)
    for name in ("reidentification_by_recording", "reidentification", "reidentification_coarse"):
        attack = report.get(name)
        assert (f"{attack['top1']:.0%} of {attack['conversations']} conversations" in text) if attack else True
    counted = report["demographics"]
    alone = round(counted["each"][0]["workers_alone"] * counted["workers"])
    assert f"{alone} are the only ones with their age, location, education, race and gender;" in text
    assert all(f"### `{config}`" in text for config in TIERS[tier] if config != "features")


def test_the_code_of_the_coarse_card_runs(folder: Path, tier: str, tmp_path: Path) -> None:
    if tier == "coarse":
        card = (folder / "README.md").read_text(encoding="utf-8")
        _, medians = run(card, folder, tmp_path)
        assert "mouse_dwell_log_ratio_centered" in medians


def as_in_tier(full: Path, config: str) -> pl.DataFrame:
    """A config of another tier from a folder of the full one."""
    if config != "coarse":
        return load_config(full, config)
    names = [column.name for column in CONFIGS["coarse"]]
    return coarse(load_config(full, "features").filter(mode="pairwise")).select(*names, "split")


def test_a_withdrawal_changes_nothing_for_the_others(folder: Path, tier: str, before: Path, marked: Marked) -> None:
    for config in TIERS[tier]:
        whole = as_in_tier(before, config)
        assert load_config(folder, config).equals(whole.filter(pl.col("worker_id") != marked.withdrawn))
    assert (load_config(before, "features")["worker_id"] == marked.withdrawn).any()


def test_a_withdrawal_leaves_a_tombstone_and_balanced_accounts(
    folder: Path, before: Path, marked: Marked, tmp_path: Path
) -> None:
    manifest, earlier = saved(folder, "manifest.json"), saved(before, "manifest.json")
    theirs = [task for task in marked.release.tasks if task.worker_id == marked.withdrawn]
    gone = sum(
        len((load_config(before, mode)).filter(worker_id=marked.withdrawn)) for mode in ("pairwise", "pointwise")
    )
    assert manifest["withdrawn"] == {"listed": 2, "workers": 1, "questions": gone}
    assert earlier["withdrawn"] == {"listed": 0, "workers": 0, "questions": 0}
    assert saved(folder, REPORT)["withdrawn"] == 1
    refused = sum(task.worker_id == marked.refused for task in marked.release.tasks)
    assert manifest["conversations_not_read"] == {"withdrawn": len(theirs), "without_consent": refused}
    read = {file["file"].rpartition("/")[0] for file in manifest["files"]}
    assert len(read) + len(theirs) + refused == len(marked.release.tasks)
    assert all(file["unaccounted"] == 0 for file in manifest["files"])
    kept = [file for file in earlier["files"] if not file["file"].startswith(marked.withdrawn)]
    assert manifest["files"] == kept
    assert earlier["questions"]["all"]["questions"] - manifest["questions"]["all"]["questions"] == gone
    assert manifest["tables"] == counts_of_tables(marked)
    assert manifest["release_sha256"] == earlier["release_sha256"]


def counts_of_tables(marked: Marked) -> dict[str, int]:
    """In plain Python, of the rows of all but the withdrawn worker."""

    def rows(name: str) -> list[dict[str, str]]:
        with (marked.release.root / name).open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if row["user_id"] != marked.withdrawn]

    log, tasks, records = (rows(f"{name}_table.csv") for name in ("query_logs", "task", "record_info"))
    consenting = [row for row in log if row["user_id"] != marked.refused]
    finished: dict[tuple[str, str], str] = {}
    for row in tasks:
        key = row["user_id"], row["task_id"]
        finished[key] = max(finished.get(key, ""), row["finished"])
    late = [
        row
        for row in consenting
        if (end := finished.get((row["user_id"], row["task_id"]))) and row["query_timestamp"] > end
    ]
    answers = [[row["llm_response_1"], row["llm_response_2"]] for row in consenting]
    return {
        "rows": len(log),
        "questions": len(consenting),
        "unanswered_dropped": 0,
        "without_consent_dropped": len(log) - len(consenting),
        "identical_rows_dropped": 0,
        "duplicate_task_rows": len(tasks) - len(finished),
        "duplicate_record_rows": len(records) - len({row["user_id"] for row in records}),
        "rows_with_cr_lf_removed": sum("\r\n" in "".join(row.values()) for row in log),
        "clock_4h_corrected": len(late),
        "without_date": sum(row["query_timestamp"].startswith("0000") for row in consenting),
        "ai_errors": sum(any(answer.startswith("AI Error") for answer in both) for both in answers),
    }


def test_a_row_without_consent_stops_the_build(marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = study.read_questions(marked.release)
    victim = cleaned.questions["worker_id"][0]
    theirs = pl.col("worker_id").replace({victim: marked.refused})
    leaky = replace(cleaned, questions=cleaned.questions.with_columns(theirs))
    monkeypatch.setattr(study, "read_questions", lambda release: leaky)
    with pytest.raises(IfllmError, match="would name 1 workers who did not consent") as error:
        build_dataset(marked.release, tmp_path / "out")
    assert marked.refused not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", TIERS["full"])
def test_the_last_gate_reads_every_config(config: str, before: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(before, tmp_path / "ifllm")
    workers = load_config(folder, "features")["worker_id"].unique().to_list()
    known = set(workers) | {file["file"].split("/")[0] for file in saved(folder, "manifest.json")["files"]}
    check_workers(folder, known)
    path = folder / f"data/{config}/train-00000-of-00001.parquet"
    pl.read_parquet(path).with_columns(worker_id=pl.lit("worker_stranger")).write_parquet(path)
    with pytest.raises(IfllmError, match=f"^data/{config}/train.*would name 1 workers"):
        check_workers(folder, known)


@pytest.mark.parametrize("name", ["manifest.json", "quarantine.csv"])
def test_the_last_gate_reads_the_accounts(name: str, before: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(before, tmp_path / "ifllm")
    known = {file["file"].split("/")[0] for file in saved(folder, "manifest.json")["files"]}
    known |= set(load_config(folder, "features")["worker_id"])
    text = (folder / name).read_text(encoding="utf-8")
    victim = (saved(folder, "manifest.json")["files"] if name == "manifest.json" else [])[0:1]
    worker = victim[0]["file"].split("/")[0] if victim else text.splitlines()[1].split("/")[0]
    (folder / name).write_text(text.replace(worker, "worker_stranger"), encoding="utf-8")
    with pytest.raises(IfllmError, match=f"^{name}: would name"):
        check_workers(folder, known)


def test_a_release_in_which_all_have_withdrawn_is_refused(marked: Marked, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="no question is left"):
        build_dataset(marked.release, tmp_path / "out", withdrawn=known_workers(marked.release))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tier_is_refused(marked: Marked, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"no tier 'secret'.*coarse, public, full"):
        build_dataset(marked.release, tmp_path / "out", tier="secret")


def test_a_withdrawal_list_has_comments_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\ufeff# asked by mail\nworker_1  # 2026-02-01\n\n  worker_2\r\nworker_1\n", encoding="utf-8")
    assert read_withdrawn(path) == {"worker_1", "worker_2"}


@pytest.mark.parametrize("content", ["worker_1 worker_2", "ok\nworker_1,worker_2", b"\xff\xfe\x00", None])
def test_a_withdrawal_list_that_cannot_be_meant(content: str | bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(IfllmError, match=r"ids\.txt(, line \d)?: (cannot be read|more than one worker id)"):
        read_withdrawn(path)


def test_build_says_what_was_left_out_and_what_is_unknown(
    marked: Marked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ids.txt").write_text(f"{marked.withdrawn}\n{UNKNOWN}\n")
    words = ["build", marked.release.root, tmp_path / "out", "--tier", "public", "--withdraw", tmp_path / "ids.txt"]
    monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "withdrawn: 1 of 2 listed workers" in out
    assert f"warning: {tmp_path / 'ids.txt'}: 1 ids are not in this release (the first: {UNKNOWN})" in out
