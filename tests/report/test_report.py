"""The report: complete, self-contained, safe with hostile text, honest about the numbers, the same bytes every time."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
from matplotlib.figure import Figure

from ifllm_hub import __version__
from ifllm_hub.align.first_order.summary import board as first_order_board
from ifllm_hub.dataset.label_worth import label_worth, worth_table
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.compare import run_comparison
from ifllm_hub.evaluation.tables import write_table
from ifllm_hub.files import without_nan
from ifllm_hub.pipeline import Settings
from ifllm_hub.report.heat import LEVELS_MS
from ifllm_hub.report.inputs import load_run
from ifllm_hub.report.reading import choose
from ifllm_hub.report.report import build_report
from ifllm_hub.reward.protocol.pairs import labeled, load_pairs
from tests.align.first_order.made import made_result
from tests.evaluation.made import both, table
from tests.report.made import board, log, patterns, results, reward_config, write

SPLITS = ("train", "test")
HOSTILE = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)> {{7*7}} {% raw %} </span></div></style>"
    " \"quoted\" 'single' & &amp; \U0001f468\u200d\U0001f469\u200d\U0001f467 \u0645\u0631\u062d\u0628\u0627"
    " \u05e9\u05dc\u05d5\u05dd \u202eorder\u202c e\u0301\n\t\x0b "
)


@pytest.fixture(scope="module")
def run(simulated: Path, labeled_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated run with its report; the dataset is built, what the other stages write is made up."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(simulated, folder / "simulated")
    shutil.copytree(labeled_dataset, folder / "dataset")
    write(folder / "patterns/patterns.json", patterns())
    write(folder / "patterns/patterns.html", "the page")
    write(folder / "reward/leaderboard.json", board(labeled(load_pairs(folder / "dataset"))))
    digest = json.loads((folder / "dataset/manifest.json").read_text())["release_sha256"]
    write(folder / "reward/config.json", reward_config(digest))
    write(folder / "policy/results.json", results())
    write(folder / "policy/trainer_state.json", {"log_history": log()})
    stages = {name: {"key": "0", "finished": True, "seconds": 1.5} for name in ("simulate", "build", "reward")}
    write(folder / "stages.json", {"ifllm_hub": __version__, "settings": asdict(Settings(seeds=2)), "stages": stages})
    write(folder / "replays/999999.html", "of an earlier report")
    assert build_report(folder) == folder / "report.html"
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("simulated")))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is empty, for tests of what stands beside them: drawing is most of a report's time."""
    empty = {io.StringIO: "<svg/>", io.BytesIO: b"<svg/>"}
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(empty[type(file)]))


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the cells of the heat strips."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.strips: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if str(attributes.get("class", "")).startswith("strip "):
            self.strips.append({"label": attributes["aria-label"], "cells": [], "ms": [], "levels": []})
        if "data-ms" in attributes:
            strip = self.strips[-1]
            strip["cells"].append("")
            strip["ms"].append(int(str(attributes["data-ms"])))
            strip["levels"].append(int(str(attributes["class"])[1:]))
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "span"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_cell:
            self.strips[-1]["cells"][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def chosen_questions(folder: Path) -> pl.DataFrame:
    loaded = load_run(folder)
    return choose(loaded.pairwise, loaded.features)


def expected_dwell(folder: Path, question_id: int, modality: str, side: str, length: int) -> list[int]:
    """Dwell by cell of 20 code points, ms, in plain Python from the trajectory's lists."""
    rows = [
        row
        for split in SPLITS
        for row in pl.read_parquet(folder / f"dataset/data/trajectories/{split}-00000-of-00001.parquet").to_dicts()
        if row["question_id"] == question_id
    ]
    (row,) = rows
    cells = [0] * ((length + 19) // 20)
    for i, t in enumerate(row["t"]):
        left, right = row[f"{modality}_char_left"][i], row[f"{modality}_char_right"][i]
        here = "left" if left >= 0 else "right" if right >= 0 else None
        duration = min(max(row["t"][i + 1] - t, 0), 1_000) if i + 1 < len(row["t"]) else 0
        if here == side:
            cells[min((left if side == "left" else right) // 20, len(cells) - 1)] += duration
    return cells


def test_page_loads_nothing_and_runs_nothing(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    elements = page(run).elements
    assert not [tag for tag, _ in elements if tag in {"script", "link", "iframe", "object", "embed", "base", "form"}]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    for tag, attributes in elements:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                value = str(attributes[name])
                beside = tag == "a" and (run / value).is_file() and ".." not in value
                assert value.startswith("data:image/" if tag == "img" else "#") or beside, attributes
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    assert "{{" not in html
    assert "{%" not in html


def test_each_reading_can_be_played_and_old_replays_go(run: Path) -> None:
    linked = [str(attributes["href"]) for tag, attributes in page(run).elements if tag == "a"]
    replays = sorted(link for link in linked if link.startswith("replays/"))
    assert replays == sorted(f"replays/{path.name}" for path in (run / "replays").iterdir())
    asked = re.findall(r"Question (\d+)", page(run).text)
    assert len(replays) == 3
    assert {Path(link).stem for link in replays} <= set(asked)


def test_label_sources_compared_in_the_run_have_their_place(copy: Path) -> None:
    assert "compared" not in [attributes["id"] for tag, attributes in page(copy).elements if tag == "section"]
    found = first_order_board(made_result())
    settings = {"policy": "tiny", "judged_by": "explicit"}
    document = {"settings": settings, "board": without_nan(found), "seconds": 1.0, "peak_memory_gb": 0.5}
    write(copy / "labels/labels.json", document)
    build_report(copy)
    shown = page(copy)
    assert "compared" in [attributes["id"] for tag, attributes in shown.elements if tag == "section"]
    row = found["tables"]["adam"]["rows"][0]
    accuracy = row["accuracy"]
    assert f"{accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in shown.text
    write(copy / "labels/labels.json", {})
    with pytest.raises(IfllmError, match=r"labels\.json: `settings` is missing or damaged"):
        build_report(copy)


def test_an_evaluation_in_the_run_has_its_page_and_its_place(copy: Path) -> None:
    assert "evaluation" not in [attributes["id"] for tag, attributes in page(copy).elements if tag == "section"]
    made = [one for question in range(6) for one in both(question, (9, 3), (8, 4))]
    write_table(copy / "evaluation/judgments/one.parquet", table(made))
    run_comparison([copy / "evaluation/judgments"], copy / "evaluation/comparison", draws=40)
    build_report(copy)
    shown = page(copy)
    assert ("a", {"href": "evaluation/evaluation.html"}) in shown.elements
    assert (copy / "evaluation/evaluation.html").is_file()
    assert "labels from forest: +5.00 points" in shown.text
    assert "keeps its winner in 100.0 % of 6 pairs" in shown.text


def test_every_figure_has_alt_text_and_is_a_self_contained_dateless_svg(run: Path) -> None:
    images = [attributes for tag, attributes in page(run).elements if tag == "img"]
    # 1 caret, 3 label, 6 trajectory, leaderboard, calibration, flip, 3 training figures.
    assert len(images) == 16
    for attributes in images:
        assert len(str(attributes["alt"])) > 20
        svg = base64.b64decode(str(attributes["src"]).partition("base64,")[2]).decode()
        root = ElementTree.fromstring(svg)
        assert "date" not in svg.lower()
        for element in root.iter():
            assert not element.tag.endswith(("script", "image", "foreignObject"))
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith("#") for link in links)


def test_every_section_and_the_key_numbers_are_there(run: Path) -> None:
    shown = page(run)
    sections = [attributes["id"] for tag, attributes in shown.elements if tag == "section"]
    assert sections == (
        [
            "summary",
            "data",
            "manifest",
            "labels",
            "patterns",
            "readings",
            "reward",
            "calibration",
            "preferences",
            "dpo",
            "provenance",
        ]
    )
    links = [str(attributes["href"]) for tag, attributes in shown.elements if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} == set(sections)
    manifest = json.loads((run / "dataset/manifest.json").read_text())
    for kind in ("rel", "abs"):
        row = manifest["lines"][kind]
        listed = [row[key] for key in ("files", "lines", "ticks", "duplicates", "quarantined", "unaccounted")]
        assert f"{kind} " + " ".join(f"{value:,}" for value in listed) in shown.text
    for reason, count in manifest["quarantine_reasons"].items():
        assert f"{reason} {count}" in shown.text
    for cells in worth_table(label_worth(load_run(run).preferences)):
        assert " ".join(filter(None, cells)) in shown.text
    assert manifest["release_sha256"] in shown.text
    assert "ifllm run --out runs/again --workers 24 --questions 300 --seed 0 --seeds 2" in shown.text
    assert ("html", {"lang": "en"}) in shown.elements


def test_another_process_writes_the_same_bytes_in_another_folder(run: Path, copy: Path) -> None:
    before = (run / "report.html").read_bytes()
    environment = os.environ | {"PYTHONHASHSEED": "7", "POLARS_MAX_THREADS": "1"}
    # The report stage has finished meanwhile; when it did is no part of the page.
    state = json.loads((copy / "stages.json").read_text())
    state["stages"]["report"] = {"key": "1", "finished": True, "seconds": 9.9}
    write(copy / "stages.json", state)
    code = "import sys; from ifllm_hub.cli import main; sys.argv = ['ifllm', 'report', sys.argv[1]]; main()"
    done = subprocess.run([sys.executable, "-c", code, str(copy)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copy / "report.html").read_bytes() == before
    assert len(before) < 3_000_000


def test_simulated_data_is_said_at_the_top(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "Simulated or modified data." in page(run).text
    assert html.index("Simulated or modified data.") < html.index("<main>")


def test_heat_strips_hold_the_answers_and_the_dwell_of_every_cell(run: Path) -> None:
    questions = chosen_questions(run)
    assert questions.height == 3
    assert questions["worker_id"].n_unique() == 3
    strips = iter(page(run).strips)
    seen = 0
    for question in questions.iter_rows(named=True):
        modalities = [m for m in ("mouse", "gaze") if question[f"has_{m}"]]
        for side in ("left", "right"):
            text = question[f"response_{side}"]
            for modality in modalities:
                strip = next(strips)
                assert strip["label"] == f"{side.capitalize()} answer, {modality} dwell"
                assert strip["cells"] == [text[i : i + 20] for i in range(0, len(text), 20)]
                assert strip["ms"] == expected_dwell(run, question["question_id"], modality, side, len(text))
                assert strip["levels"] == [sum(ms >= bound for bound in LEVELS_MS) for ms in strip["ms"]]
                assert sum(strip["ms"]) == question[f"{modality}_dwell_{side}"]
                seen += sum(strip["ms"])
    assert next(strips, None) is None
    assert seen > 0


@pytest.mark.usefixtures("undrawn")
def test_hostile_answers_of_a_real_release_are_shown_as_text(copy: Path) -> None:
    """Also: no banner on the released data, and the sentence of a gain that is clear of 0."""
    questions = chosen_questions(copy)
    texts = {}
    for split in SPLITS:
        path = copy / f"dataset/data/pairwise/{split}-00000-of-00001.parquet"
        rows = pl.read_parquet(path).to_dicts()
        for row in rows:
            if row["question_id"] in questions["question_id"]:
                length = len(row["response_left"])
                texts[row["question_id"]] = row["response_left"] = (HOSTILE * (length // len(HOSTILE) + 1))[:length]
                row["query"] = HOSTILE
        pl.DataFrame(rows, schema=pl.read_parquet_schema(path)).write_parquet(path)
    manifest = json.loads((copy / "dataset/manifest.json").read_text())
    write(copy / "dataset/manifest.json", manifest | {"is_the_released_data": True})
    leaderboard = json.loads((copy / "reward/leaderboard.json").read_text())
    for row in leaderboard["rows"]:
        row["gain_over_longer_answer"] = {"mean": 0.04, "low": 0.01, "high": 0.07}
        row["adjusted"]["accuracy"] = {"low": 0.005, "high": 0.075, "p": 0.03}
    write(copy / "reward/leaderboard.json", leaderboard)
    benign = [tag for tag, _ in page(copy).elements]

    build_report(copy)

    shown = page(copy)
    assert [tag for tag, _ in shown.elements if tag != "span"] == [
        tag for tag in benign if tag not in {"span", "aside", "strong"}
    ]
    assert "alert(1)" in shown.text
    assert "{{7*7}}" in shown.text
    assert "<script>alert" not in (copy / "report.html").read_text(encoding="utf-8")
    left = [strip for strip in shown.strips if strip["label"] == "Left answer, mouse dwell"]
    for question_id, strip in zip(questions["question_id"], left, strict=True):
        text = texts[question_id]
        assert strip["cells"] == [text[i : i + 20] for i in range(0, len(text), 20)]
        assert strip["ms"] == expected_dwell(copy, question_id, "mouse", "left", len(text))
    assert "Simulated or modified" not in shown.text
    assert "(adjusted for all models and measures compared) of +0.5 to +7.5, which does not include 0" in shown.text


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("dataset/manifest.json", "build"),
        ("dataset/data/pairwise/test-00000-of-00001.parquet", "build"),
        ("dataset/data/trajectories/train-00000-of-00001.parquet", "build"),
        ("dataset/data/preferences_forest/train-00000-of-00001.parquet", "label"),
        ("patterns/patterns.json", "patterns"),
        ("reward/leaderboard.json", "reward"),
        ("reward/config.json", "reward"),
        ("policy/results.json", "align"),
        ("policy/trainer_state.json", "align"),
    ],
)
@pytest.mark.parametrize("content", [None, b"PAR1{ half"], ids=["missing", "damaged"])
def test_missing_or_damaged_part_is_named_with_its_remedy(
    run: Path, name: str, stage: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, old = run / name, (run / "report.html").read_bytes()
    kept = part.read_bytes()
    listing = sorted(run.iterdir())
    # What comes before the trajectories is well tested, and slow to draw.
    for drawing in ("_dataset", "_models"):
        monkeypatch.setattr(f"ifllm_hub.report.report.{drawing}", lambda loaded: {})
    try:
        part.unlink() if content is None else part.write_bytes(content)
        with pytest.raises(IfllmError) as error:
            build_report(run)
    finally:
        part.write_bytes(kept)
    assert str(error.value).startswith(f"{part}: ")
    assert f"The stage '{stage}' writes it." in str(error.value)
    named = {"build": "dataset", "label": "dataset/data/preferences_explicit", "align": "policy"}
    folder = named.get(stage, stage)
    assert f"Delete {run / folder}, then run the same `ifllm run --out {run}` command again." in str(error.value)
    assert (run / "report.html").read_bytes() == old
    assert sorted(run.iterdir()) == listing


def test_a_leaderboard_of_an_older_version_is_named(copy: Path) -> None:
    path = copy / "reward/leaderboard.json"
    board = json.loads(path.read_text())
    del board["rows"][1]["adjusted"]
    write(path, board)
    with pytest.raises(IfllmError, match=rf"{path}: .*adjusted.* is missing or damaged. .*un the same `ifllm run"):
        build_report(copy)


def test_a_reward_model_of_another_release_is_refused(copy: Path) -> None:
    write(copy / "reward/config.json", reward_config("0"))
    with pytest.raises(IfllmError, match=r"reward/config\.json: the reward model was trained on another release"):
        build_report(copy)


def test_a_run_of_another_version_is_refused(copy: Path) -> None:
    state = json.loads((copy / "stages.json").read_text())
    write(copy / "stages.json", state | {"ifllm_hub": "0.0.1"})
    with pytest.raises(IfllmError, match=r"made by ifllm_hub 0\.0\.1.*Run the same"):
        build_report(copy)


@pytest.mark.parametrize("content", [None, "{ half", "[]"])
def test_folder_without_usable_stages_is_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "stages.json").write_text(content)
    with pytest.raises(IfllmError, match=r"stages\.json: .*`ifllm run --out <folder>`"):
        build_report(tmp_path)


def test_no_run_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"no such run folder.*ifllm run --out"):
        build_report(tmp_path / "nowhere")


def test_the_chapter_on_reading_has_the_findings_and_leads_to_their_page(run: Path) -> None:
    html = (run / "report.html").read_text()
    assert "<li>Twice the length changes &lt;nothing&gt;.</li>\n<li>Nobody skips.</li>" in html
    assert "52 questions whose answers 8 workers were seen reading; 3 comparisons" in html
    assert '<a href="patterns/patterns.html">' in html
