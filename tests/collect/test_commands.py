"""The commands on what a collector stored, as an operator types them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from tests.collect.conftest import Site
from tests.collect.export.test_export import collect


def ifllm(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_from_the_store_to_a_dataset_and_back(site: Site, tmp_path: Path) -> None:
    collect(site, people=6)
    folder, out = site.settings.folder, tmp_path / "out"
    said = ifllm("collect", "export", "--folder", folder, "--out", out)
    assert said == f"18 questions of 6 people\ndataset: {out}\n"
    assert "not searched for personal data" in (out / "README.md").read_text()
    assert "findings to review" in ifllm("scan", out, "--out", tmp_path / "findings.csv")
    assert "They were searched for what looks like personal data" in (out / "README.md").read_text()
    question = load_config(out, "trajectories")["question_id"][0]
    ifllm("replay", str(question), "--dataset", out, "--out", tmp_path / "replay.html")
    assert "<html" in (tmp_path / "replay.html").read_text(encoding="utf-8")
    said = ifllm("collect", "delete", "p1", "--folder", folder)
    assert f"{out}: 3 questions removed" in said
    assert load_config(out, "pairwise")["worker_id"].n_unique() == 5
    assert "not searched for personal data" in (out / "README.md").read_text()
    assert "0 batches" in ifllm("collect", "retention", "--days", "1", "--folder", folder)


@pytest.mark.parametrize(
    "words", [["delete", "ada"], ["retention", "--days", "1"], ["export", "--out", "out"]], ids=lambda words: words[0]
)
def test_a_locked_store(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    site.send(site.pair("ada", "q1"))
    monkeypatch.setattr("ifllm_hub.collect.store.tables._BUSY_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    folder = site.settings.folder
    with closing(sqlite3.connect(folder / "collected.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        result = CliRunner().invoke(app, ["collect", *words, "--folder", str(folder)])
        holder.rollback()
    assert isinstance(result.exception, IfllmError)
    assert "database is locked" in str(result.exception)
    assert "Run this again" in str(result.exception)
    assert site.store.counts()["batches"] == 1
    assert not (tmp_path / "out").exists()
