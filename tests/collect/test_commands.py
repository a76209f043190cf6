"""The commands on what a collector stored, as an operator types them."""

from pathlib import Path

from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.dataset.load import load_config
from tests.collect.conftest import Site
from tests.collect.test_export import collect


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
    assert f"{out}: 3 questions taken out" in said
    assert load_config(out, "pairwise")["worker_id"].n_unique() == 5
    assert "not searched for personal data" in (out / "README.md").read_text()
    assert "0 batches" in ifllm("collect", "retention", "--days", "1", "--folder", folder)
