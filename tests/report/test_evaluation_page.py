"""The evaluation page: complete, self-contained, safe with hostile text, sortable in a real browser, the same bytes."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.compare import run_comparison
from ifllm_hub.evaluation.comparison.differences import differences, read_judgments
from ifllm_hub.evaluation.judge.quality import SHARES, write_quality
from ifllm_hub.evaluation.tables import write_table
from ifllm_hub.report.evaluation import build_evaluation_page
from ifllm_hub.report.judgments import DISAGREEING, FAILED, LARGEST, SAMPLED, SHOWN, choose_judgments, read_judged
from ifllm_hub.terms import FAILURES
from tests.evaluation.made import both, judgment, table

HOSTILE = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)> {{7*7}} {% raw %} </td></table></style>"
    " \"quoted\" 'single' & &amp; \u202eorder\u202c Give me 10.\n\t"
)


def rows() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for place, source in enumerate(("explicit", "forest")):
        names = {"label_source": source, "llm": "gpt2-xl", "model": f"gpt2-xl-{source}", "baseline": "gpt2-xl-sft"}
        hostile = {
            "messages": [{"role": "user", "content": HOSTILE}],
            "answer_model": f"MODEL {HOSTILE}",
            "answer_baseline": f"BASELINE {HOSTILE}",
            "explanation": f"WHY {HOSTILE}",
        }
        made += both(0, (9, 2), (10, 1), **names, **hostile)
        for question in range(1, 20):
            made += both(question, (4 + question % 4 + place, 5), (5, 3 + question % 5), **names)
        made += [judgment(20, "model_first", 7, 5, **names)]
        made += [judgment(20, "baseline_first", None, None, **names, raw=f"RAW {HOSTILE}")]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation folder with its page."""
    made = tmp_path_factory.mktemp("evaluation")
    write_table(made / "judgments/one.parquet", table(rows()))
    run_comparison([made / "judgments"], made / "comparison", draws=40)
    (made / "judge").mkdir()
    nothing = {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    quality = dict.fromkeys(SHARES, nothing) | {"agreement": {"mean": 0.61234, "low": 0.5, "high": 0.7, "n": 120}}
    quality |= {"pairs": {"asked": 60, "decided": 50, "tied": 7, "set_aside": 3}}
    quality |= dict.fromkeys(FAILURES, 0.0) | {"judgments": 120, "judge": "gpt-judge", "judge_settings": "{}"}
    assert write_quality(made / "judge/<b>people.parquet", [quality]) == made / "judge/<b>people.quality.json"
    assert build_evaluation_page(made) == made / "evaluation.html"
    return made


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "evaluation.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_nothing_is_loaded_and_one_script_is_allowed_by_its_hash(html: str) -> None:
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 1
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href"):
                assert str(value).startswith(("#", "data:image/"))
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(str(a["content"]) for tag, a in page.elements if "http-equiv" in a)
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert len(script.strip().splitlines()) < 40


def test_hostile_text_is_shown_as_text(html: str) -> None:
    text = "".join(Page(html).texts)
    for start in ("MODEL ", "BASELINE ", "WHY ", "RAW "):
        assert f"{start}{HOSTILE.rstrip()}" in text, start
    assert "<b>people" in text


def test_numbers_figures_and_the_missing_are_there(folder: Path, html: str) -> None:
    comparison = json.loads((folder / "comparison/comparison.json").read_text())
    text = " ".join(" ".join(Page(html).texts).split())
    for row in comparison["pooled"]:
        if row["n"]:
            assert f"{row['difference']['mean']:+.2f}".replace("-", "\u2212") in text
    assert html.count('class="missing"') == len(comparison["missing"]) + 4  # a pooled cell of four sources, too
    # Four of 84 judgments are malformed or lack an order; the judge's own numbers beside what was said elsewhere.
    assert "agreement with people - 0.612 [0.500, 0.700], n 120" in text
    agreeing = [row for row in comparison_pairs(folder) if row["word_model_first"] == row["word_baseline_first"]]
    share = len(agreeing) / len(comparison_pairs(folder))
    assert f"same winner in both orders {share:.3f}, n {len(comparison_pairs(folder))}" in text
    assert html.count("<img ") == 4
    assert "one order scored: malformed 2" in text


def test_a_judge_that_sees_places_alone_is_called_unusable(folder: Path, html: str, tmp_path: Path) -> None:
    kept = json.loads((folder / "comparison/comparison.json").read_text())["position"]["consistency"]
    assert ("Not a usable judge" in html) == (kept < 0.5)
    made = [one for question in range(6) for one in both(question, (3, 9), (9, 3))]
    write_table(tmp_path / "judgments/one.parquet", table(made))
    run_comparison([tmp_path / "judgments"], tmp_path / "comparison", draws=40)
    page = build_evaluation_page(tmp_path).read_text(encoding="utf-8")
    assert "Not a usable judge" in page
    assert "keeps its winner in 0.0 % of 6 pairs" in page
    assert "keeps its winner in 0.0 % of 6 pairs" in (tmp_path / "comparison/comparison.md").read_text()


def comparison_pairs(folder: Path) -> list[dict[str, Any]]:
    judgments, _ = read_judgments([folder / "judgments"])
    return differences(judgments).pairs.to_dicts()


def test_the_same_folder_gives_the_same_bytes(folder: Path, html: str) -> None:
    build_evaluation_page(folder)
    assert (folder / "evaluation.html").read_text(encoding="utf-8") == html


def test_a_comparison_of_other_judgments_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison/comparison.json").write_bytes((folder / "comparison/comparison.json").read_bytes())
    write_table(tmp_path / "judgments/one.parquet", table(rows()[:-1]))
    with pytest.raises(IfllmError, match="made from other judgments"):
        build_evaluation_page(tmp_path)
    (tmp_path / "comparison/comparison.json").unlink()
    with pytest.raises(IfllmError, match="missing or damaged"):
        build_evaluation_page(tmp_path)
    assert not (tmp_path / "evaluation.html").exists()


def test_which_judgments_are_shown() -> None:
    found = differences(table(rows()))
    chosen = choose_judgments(found.pairs, found.set_aside)
    keys = [tuple(key.values()) for key, _ in chosen]
    assert len(set(keys)) == len(keys) <= 2 * LARGEST + DISAGREEING + FAILED + SAMPLED
    assert chosen == choose_judgments(found.pairs.reverse(), found.set_aside)
    by_why: dict[str, list[float]] = {}
    for key, why in chosen:
        here = found.pairs.filter(*(pl.col(name) == value for name, value in key.items()))
        by_why.setdefault(why, []).extend(here["difference"])
    assert (
        by_why["largest difference for the aligned model"] == sorted(found.pairs["difference"], reverse=True)[:LARGEST]
    )
    assert by_why["largest difference for its SFT model"] == sorted(found.pairs["difference"])[:LARGEST]
    assert by_why["set aside (seeded sample)"] == []


def test_a_judgment_is_read_with_both_orders_and_long_texts_are_cut() -> None:
    found = table(both(1, (9, 2), (4, 6), answer_model="x" * (SHOWN + 7)))
    one = read_judged(found, differences(found).pairs, {"llm": "a", "label_source": "forest", "question_id": 1}, "why")
    assert [(v.order, v.score_model, v.score_baseline, v.winner) for v in one.verdicts] == [
        ("model_first", 9, 2, "model"),
        ("baseline_first", 4, 6, "baseline"),
    ]
    assert (len(one.answer_model.text), one.answer_model.cut) == (SHOWN, 7)
    assert one.difference == 2.5


@pytest.mark.slow
def test_a_real_browser_sorts_runs_nothing_else_and_nothing_overflows(folder: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = Path("/usr/bin/chromium")
    if not browser_path.exists():
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        said: list[str] = []
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto((folder / "evaluation.html").as_uri())
            first_column = "[...document.querySelectorAll('.cells tbody th')].map(cell => cell.textContent)"
            before = page.evaluate(first_column)
            heading = page.locator(".cells thead th").nth(1)
            heading.locator("button").click()
            falling = page.evaluate(first_column)
            assert heading.get_attribute("aria-sort") == "descending"
            heading.locator("button").click()
            rising = page.evaluate(first_column)
            assert falling[:2] == rising[1::-1]
            assert set(falling[:2]) == {"explicit feedback", "forest, mouse + gaze"}  # those without numbers stay last
            assert falling[2:] == rising[2:] == [name for name in before if name not in falling[:2]]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert said == []
        browser.close()
