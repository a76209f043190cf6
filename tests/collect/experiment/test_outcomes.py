"""From registered answers to a comparison: what is exported of arms, what the outcomes are, and the command."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.collect.experiment.outcomes import OUTCOMES, read_outcomes
from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.dataset.load import load_config
from tests.collect.client import reading
from tests.collect.conftest import Site


@pytest.fixture
def exported(site: Site, tmp_path: Path) -> Path:
    """Six people in two arms, who ask a question each, whose answers differ; one more without an arm, and a pair."""
    for number in range(6):
        arm = {"arm": "ab"[number % 2], "propensity": 0.5}
        text = "word " * (20 if number % 2 else 10 + number)
        token = site.register(f"p{number}", "q", text=text, **arm)["token"]
        site.register(f"p{number}", "q", text=text)  # streamed, and registered again without the arm
        events = [[0, "shown", 0, None], [900, "copy", 0, 4], [1_000, "thumb", 0, 1]] if number % 2 else []
        assert site.send([token], number, ticks=reading(1, 0), events=events).status_code == 202
        assert site.post("ratings", {"token": token, "rating": 3 + number % 2}).status_code == 202
    pair = [site.register("p1", "pair", side, f"{side} " * 9, arm="b", propensity=0.5) for side in ("left", "right")]
    tokens = [one["token"] for one in pair]
    events = [[900, "copy", 1, 4], [1_000, "thumb", 0, 1], [1_000, "thumb", 1, -1]]
    assert site.send(tokens, 7, ticks=reading(1, 0), events=events).status_code == 202
    for token, rating in zip(tokens, (2, 5), strict=True):
        assert site.post("ratings", {"token": token, "rating": rating}).status_code == 202
    assert site.send([site.register("p6", "q")["token"]], 8, ticks=reading(1, 0)).status_code == 202
    export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    return tmp_path / "out"


def test_an_arm_is_a_signal_of_the_question(exported: Path) -> None:
    signals = load_config(exported, "signals")
    assert signals.select("arm", "propensity").unique().sort("arm").rows() == [(None, None), ("a", 0.5), ("b", 0.5)]
    assert signals["arm"].null_count() == 1
    assert "arm" not in load_config(exported, "pointwise").columns


def test_outcomes_by_hand(exported: Path) -> None:
    rows = read_outcomes(str(exported))
    assert rows.columns == ["worker_id", "arm", "propensity", *(outcome.name for outcome in OUTCOMES)]
    of = {arm: rows.filter(pl.col("arm").eq_missing(arm)) for arm in ("a", "b", None)}
    assert set(of["a"].drop("worker_id", "length").rows()) == {("a", 0.5, 3.0, None, 1.0, 0.0, 0.0, 0.0)}
    assert sorted(of["a"]["length"]) == [50, 60, 70]
    single = of["b"].filter(pl.col("length") == 100).drop("worker_id", "followed_up")
    assert set(single.rows()) == {("b", 0.5, 4.0, 1.0, 1.0, 1.0, 0.0, 100.0)}
    two = of["b"].filter(pl.col("length") != 100).drop("worker_id")
    assert two.rows() == [("b", 0.5, 3.5, 0.5, 1.0, 1.0, 0.0, 0.0, (9 * 5 + 9 * 6) / 2)]
    assert of[None].drop("worker_id").rows() == [(None, None, None, None, 0.0, 0.0, 0.0, 0.0, 400.0)]


def test_the_command(exported: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["collect", "compare", str(exported), "--out", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "report" / "arms.json").read_text())
    assert [(arm["arm"], arm["people"], arm["questions"]) for arm in written["arms"]] == [("a", 3, 3), ("b", 3, 4)]
    rating = written["outcomes"][0]
    assert (rating["outcome"], rating["differences"][0]["mean"]) == ("rating", pytest.approx((3 * 4 + 3.5) / 4 - 3))
    page = (tmp_path / "report" / "arms.md").read_text()
    for said in (f"`ifllm collect compare {exported}`", "| rating | b | 3 | 4 | 3.875", "3 in a (0.5), 3 in b (0.5)"):
        assert said in page
    assert "+0.875" in done.output
    turned = runner.invoke(app, ["collect", "compare", str(exported), "--arm", "b", "--arm", "a"])
    assert "The control is b." in turned.output
    assert "-0.875" in turned.output


def test_what_was_not_collected_has_no_arms(dataset: Path) -> None:
    done = CliRunner().invoke(app, ["collect", "compare", str(dataset)])
    assert done.exit_code != 0
    assert "signals" in str(done.exception)
