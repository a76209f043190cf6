"""The page about reading patterns: its numbers recomputed from the ticks, its bytes, and what it must not say."""

import gzip
import io
import json
import math
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.report.patterns.page import write_patterns
from tests.collect.client import reading
from tests.collect.conftest import Site, make_site, site
from tests.conftest import made_once

__all__ = ["make_site", "site"]

# Of one step between ticks, ms (docs/format.md 7.2).
LONGEST_STEP = 1_000


@pytest.fixture(scope="module")
def written(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(out: Path) -> None:
        (out / "replays").mkdir(parents=True)
        (out / "replays" / "999999.html").write_text("of an earlier page")
        write_patterns(study, out)

    return made_once("patterns-page", make, tmp_path_factory)


@pytest.fixture(scope="module")
def found(written: Path) -> dict[str, Any]:
    return json.loads((written / "patterns.json").read_text())  # type: ignore[no-any-return]


def mouse_ticks(study: Path) -> dict[tuple[int, str], list[tuple[int, int]]]:
    """Of each answer that counts and was on screen of a question with the mouse on text: (dt, char) on its text."""
    counted = {}
    for mode in ("pairwise", "pointwise"):
        for row in load_config(study, mode).iter_rows(named=True):
            if not row["ai_error"] and not row["excluded_worker"]:
                counted[row["question_id"]] = row["worker_id"]
    ticks = {}
    for row in load_config(study, "trajectories").iter_rows(named=True):
        if row["question_id"] not in counted:
            continue
        t = row["t"]
        steps = [min(b - a, LONGEST_STEP) for a, b in pairwise(t)] + [0] * bool(t)
        sides = {
            side: [(dt, char) for dt, char in zip(steps, row[f"mouse_char_{side}"] or [], strict=False) if char >= 0]
            for side in ("left", "right")
            if row[f"length_{side}"] is not None
        }
        if any(sides.values()):
            ticks |= {(row["question_id"], side): on_text for side, on_text in sides.items()}
    return ticks


def lengths(study: Path) -> dict[tuple[int, str], int]:
    return {
        (row["question_id"], side): row[f"length_{side}"]
        for row in load_config(study, "trajectories").iter_rows(named=True)
        for side in ("left", "right")
        if row[f"length_{side}"] is not None
    }


def summary(found: dict[str, Any], measure: str) -> dict[str, Any]:
    (row,) = (row for row in found["summaries"] if row["measure"] == measure and row["modality"] == "mouse")
    return row  # type: ignore[no-any-return]


def test_five_numbers_of_the_page_in_plain_python(study: Path, found: dict[str, Any]) -> None:
    ticks, length = mouse_ticks(study), lengths(study)
    depth = [max((char for _, char in on_text), default=0) / length[key] for key, on_text in ticks.items()]
    coverage = [
        len({min(char // 20, (length[key] - 1) // 20) for _, char in on_text}) / math.ceil(length[key] / 20)
        for key, on_text in ticks.items()
    ]
    dwell = {key: sum(dt for dt, _ in on_text) for key, on_text in ticks.items() if on_text}
    head = [
        sum(dt for dt, char in ticks[key] if 3 * char < length[key]) / total for key, total in dwell.items() if total
    ]
    assert summary(found, "depth")["median"] == pytest.approx(median(depth))
    assert summary(found, "coverage")["median"] == pytest.approx(median(coverage))
    assert summary(found, "coverage")["n"] == len(coverage)
    assert summary(found, "dwell")["median"] == median(dwell.values())
    assert summary(found, "head_share")["median"] == pytest.approx(median(head))


def test_the_effect_of_bullets_in_plain_python(study: Path, found: dict[str, Any]) -> None:
    """The length of answers: differences within worker and mode, weighted by n1 n0 / (n1 + n0)."""
    seen = {question_id for question_id, _ in mouse_ticks(study)}
    rows = []
    for mode in ("pairwise", "pointwise"):
        for row in load_config(study, mode).iter_rows(named=True):
            texts = [row[f"response_{side}"] for side in ("left", "right")] if mode == "pairwise" else [row["response"]]
            if row["question_id"] in seen:
                of = row["worker_id"], mode
                rows.append((row["question_id"], of, row["bullet_points"], sum(map(len, texts)) / len(texts)))
    rows.sort()
    first = next(place for place, row in enumerate(rows) if row[2])
    strata: dict[tuple[str, str], dict[bool, list[float]]] = {}
    for _, of, bullets, length in rows[first + 1 :]:
        strata.setdefault(of, {True: [], False: []})[bullets].append(length)
    above = below = 0.0
    for groups in strata.values():
        one, none = groups[True], groups[False]
        if one and none:
            weight = len(one) * len(none) / (len(one) + len(none))
            above += weight * (sum(one) / len(one) - sum(none) / len(none))
            below += weight
    (effect,) = (e for e in found["effects"] if e["family"] == "bullets" and e["measure"] == "length")
    assert effect["mean"] == pytest.approx(above / below)


def test_holm_in_plain_python(found: dict[str, Any]) -> None:
    ordered = sorted(found["effects"], key=lambda effect: effect["p"])
    largest = 0.0
    for place, effect in enumerate(ordered):
        largest = max(largest, min(1.0, effect["p"] * (len(ordered) - place)))
        assert effect["holm"] == pytest.approx(largest)


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_counts_its_comparisons_and_loads_nothing(written: Path, found: dict[str, Any]) -> None:
    html = (written / "patterns.html").read_text()
    assert f"This page makes {len(found['effects'])} comparisons with a p value" in html
    surviving = sum(effect["holm"] <= 0.05 for effect in found["effects"])
    assert f"{surviving} survive at 0.05" in html
    assert "Simulated or modified data." in html
    tags = Tags(html).found
    sources = [attrs["src"] or "" for tag, attrs in tags if tag in ("img", "script", "iframe") and "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/svg+xml") for source in sources)
    assert all(attrs["alt"] for tag, attrs in tags if tag == "img")
    links = [attrs["href"] or "" for tag, attrs in tags if tag == "a"]
    files = {link for link in links if not link.startswith("#")}
    assert "measures.csv.gz" in files
    assert all((written / file).is_file() for file in files)
    ids = Counter(attrs["id"] for _, attrs in tags if "id" in attrs)
    assert all(ids[link[1:]] == 1 for link in links if link.startswith("#"))


def test_neither_markdown_nor_json_name_a_worker_or_quote_a_text(written: Path, study: Path) -> None:
    said = (written / "patterns.md").read_text()
    assert "**Simulated or modified data" in said
    workers = load_config(study, "pairwise")["worker_id"].unique()
    assert not [worker for worker in workers if worker in said]
    shown = re.findall(r"!\[.*?\]\((.*?)\)", said)
    assert shown
    assert all((written / name).read_bytes().startswith(b"<?xml") for name in shown)


def test_the_file_of_all_values_is_the_table(written: Path, found: dict[str, Any]) -> None:
    rows = pl.read_csv(io.BytesIO(gzip.decompress((written / "measures.csv.gz").read_bytes())))
    depth = rows.filter(measure="depth", modality="mouse")
    assert depth.height == summary(found, "depth")["n"]
    assert depth["value"].median() == pytest.approx(summary(found, "depth")["median"], rel=1e-5)


@pytest.mark.slow
def test_a_second_time_gives_the_same_bytes(study: Path, written: Path, tmp_path: Path) -> None:
    write_patterns(study, tmp_path)
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name


def test_a_replay_of_an_earlier_page_goes(written: Path) -> None:
    assert len(list((written / "replays").glob("*.html"))) > 4
    assert not (written / "replays" / "999999.html").exists()


def test_a_dataset_without_trajectories_is_refused(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "public")
    shutil.rmtree(tmp_path / "public" / "data" / "trajectories")
    with pytest.raises(IfllmError, match="trajectories"):
        write_patterns(tmp_path / "public", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.html"))


def test_collected_data_has_a_page_of_what_can_be_said(site: Site, tmp_path: Path) -> None:
    for number, person in enumerate(("ann", "bob", "eve")):
        assert site.send(site.pair(person, f"q{number}"), number + 1, ticks=reading(4, 0)).status_code == 202
    export_dataset(site.store, tmp_path / "dataset", site.pseudonyms)
    path, found = write_patterns(tmp_path / "dataset", tmp_path / "page")
    assert (found.origin, found.questions, found.workers) == ("collected", 3, 3)
    assert found.bullets.coin is None
    assert {one.modality for one in found.summaries} == {"mouse"}
    assert "Simulated or modified data." not in path.read_text()
