"""Whoever pastes the card's code gets what the card says: every block of it runs against the built folder."""

import json
import shutil
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.card.pages import write_card
from tests.docs.snippets import blocks, run


def test_the_code_of_the_card_runs(dataset: Path, tmp_path: Path) -> None:
    card = (dataset / "README.md").read_text(encoding="utf-8")
    assert card.count("```python") == len(blocks(card)) == 4
    first, medians, streamed, described = run(card, dataset, tmp_path)
    pairs = pl.read_parquet(dataset / "data/pairwise/train-00000-of-00001.parquet")
    assert first.split() == [str(pairs.height), str(pairs["preference"][0])]
    features = pl.read_parquet(dataset / "data/features/train-00000-of-00001.parquet")
    joined = pairs.join(features, on="question_id")
    for side in ("left", "right"):
        row = next(line.split() for line in medians.splitlines() if line.startswith(side))
        expected = joined.filter(preference=side).select(pl.col("mouse_dwell_log_ratio", "length_log_ratio").median())
        assert [round(float(value), 5) for value in row[1:]] == [round(value, 5) for value in expected.row(0)]
    ticks = pl.read_parquet(dataset / "data/trajectories/train-00000-of-00001.parquet")
    on_text = ((ticks["mouse_char_left"][0] >= 0) | (ticks["mouse_char_right"][0] >= 0)).sum()
    assert streamed.strip() == f"{len(ticks['t'][0])} ticks, {on_text} of them with the cursor on an answer"
    assert str(ticks.height) in described


def test_the_code_of_the_public_card_runs(dataset: Path, tmp_path: Path) -> None:
    public = shutil.copytree(dataset, tmp_path / "public")
    shutil.rmtree(public / "data/trajectories")
    manifest = json.loads((public / "manifest.json").read_text())
    (public / "manifest.json").write_text(json.dumps(manifest | {"tier": "public"}))
    write_card(public)
    card = (public / "README.md").read_text(encoding="utf-8")
    assert len(run(card, public, tmp_path)) == card.count("```python") == 2
