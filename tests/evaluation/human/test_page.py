"""The rating page in a real browser: filled in, reloaded half way, downloaded, imported and scored."""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from ifllm_hub.evaluation.human.ratings import import_ratings
from ifllm_hub.evaluation.human.scores import score_ratings
from ifllm_hub.evaluation.human.task import KEY, export_task
from ifllm_hub.evaluation.tables import RATINGS, read_table
from tests.evaluation.made import write_generations
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = (
    "It holds.</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'></div></textarea>"
    "<svg onload=window.pwned=3> \u2028 {{ 7 * 7 }} &lt;b&gt; <style>body{display:none}</style> \u202eolleh"
)
MODEL = {1: "The tower is 330 m tall.", 2: HOSTILE, 3: "A poem."}
BASELINE = {1: "It is tall.", 2: "Maybe.", 3: ""}
EVAL = Path(__file__).parents[3] / "eval"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Three items, of which two raters see each; the folder of the task."""
    model = write_generations(tmp_path / "model.parquet", "aligned-secret", MODEL)
    baseline = write_generations(tmp_path / "baseline.parquet", "sft-secret", BASELINE)
    export_task(model, baseline, tmp_path / "task", "qwen", "forest", ["ann", "bob"], seed=1)
    return tmp_path / "task"


@pytest.fixture
def page(browser: "Browser", task: Path) -> "Iterator[Page]":
    """The page of `ann`; whatever it wants from a network, says on the console or asks, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    noises: list[str] = []
    page.on("console", lambda message: noises.append(message.text))
    page.on("pageerror", lambda error: noises.append(str(error)))
    page.on("dialog", lambda dialog: (noises.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: noises.append(request.url) if request.url != page.url else None)
    page.goto((task / "for_raters" / "ann.html").as_uri())
    noises.clear()  # the page itself
    yield page
    assert noises == []
    context.close()


def shown(page: "Page", side: str) -> str:
    return str(page.locator(f"#text-{side}").inner_text())


def choose(page: "Page", name: str, value: Any) -> None:
    page.locator(f"input[name={name}][value='{value}']").check()


def rate(page: "Page", side: str, support: str, overall: int) -> None:
    choose(page, f"claim_supported_{side}", support)
    if support != "nothing":
        page.fill(f"#claim_{side}", 'with "quotes", commas\nand a second line')
        page.fill(f"#claim_url_{side}", "https://example.org/tower")
        page.fill(f"#claim_evidence_{side}", "It says so.")
    for name, value in (("errors", 1), ("informativeness", 2), ("relevance", 3), ("overall", overall)):
        choose(page, f"{name}_{side}", value)


def rate_item(page: "Page", model_points: int) -> str:
    """Give the aligned model's answer 4 and the baseline's 2, and `model_points` to the model; the model's side."""
    answers = list(MODEL.values())
    side = "left" if shown(page, "left") in (answers[0], answers[2]) or "pwned" in shown(page, "left") else "right"
    other = "right" if side == "left" else "left"
    rate(page, side, "yes", overall=4)
    rate(page, other, "nothing", overall=2)
    choose(page, "comparison", model_points if side == "left" else -model_points)
    return side


def test_from_page_to_scores(page: "Page", task: Path, tmp_path: Path) -> None:
    sides = [rate_item(page, 3)]
    page.fill("#comment", "=1+1 is no formula here")
    page.click("#next")
    assert page.locator("#heading").inner_text() == "Item 2 of 3"
    choose(page, "errors_left", 2)
    page.fill("#comment", "half way")

    page.reload()
    page.reload()
    assert page.locator("#heading").inner_text() == "Item 2 of 3"
    assert page.locator("#count").inner_text() == "1 of 3 finished"
    assert page.locator("input[name=errors_left][value='2']").is_checked()
    assert page.input_value("#comment") == "half way"
    sides.append(rate_item(page, 0))
    page.click("#next")
    sides.append(rate_item(page, 1))
    page.click("#next")
    assert "All 3 items are finished" in page.locator("#end-text").inner_text()
    with page.expect_download() as started:
        page.click("#download")
    started.value.save_as(tmp_path / "ann.csv")
    assert started.value.suggested_filename.endswith("-ann.csv")

    ratings = import_ratings(task / "key.parquet", [tmp_path / "ann.csv"])
    assert dict(ratings.schema) == RATINGS
    assert ratings["comparison"].to_list() == [3, 0, 1]  # in the order of the page
    assert ratings["order"].to_list() == [{"left": "model_first", "right": "baseline_first"}[side] for side in sides]
    assert ratings["claim_supported_model"].to_list() == [True] * 3
    assert ratings["claim_supported_baseline"].to_list() == [None] * 3
    assert ratings["claim_model"].to_list() == ['with "quotes", commas\nand a second line'] * 3
    assert ratings["claim_baseline"].to_list() == [None] * 3
    assert ratings["comment"].to_list() == ["=1+1 is no formula here", "half way", None]
    assert set(ratings["answer_model"]) == set(MODEL.values())
    (group,) = score_ratings(ratings)["groups"]
    overall = next(row for row in group["dimensions"] if row["dimension"] == "overall")
    assert (overall["model"], overall["baseline"], overall["difference"]) == (4, 2, 2)
    assert group["comparison"]["mean"] == pytest.approx(4 / 3)
    assert group["comparison"]["model"] == pytest.approx(2 / 3)
    # Three equal differences: of the 8 ways to give them signs, 2 are as far from 0 as all alike.
    assert overall["p"] == pytest.approx(2 / 8)


def test_hostile_text_is_shown_as_it_is(page: "Page") -> None:
    seen = []
    for number in range(3):
        page.click(f"#items li:nth-child({number + 1}) button")
        seen += [page.locator(f"#text-{side}").evaluate("node => node.textContent") for side in ("left", "right")]
    assert HOSTILE in seen
    assert "(This answer is empty.)" in seen
    assert page.evaluate("window.pwned") is None
    assert page.locator("script").count() == 2
    assert page.locator("img, svg, iframe, link").count() == 0


def test_content_policy_stops_what_gets_in_anyway(browser: "Browser", task: Path) -> None:
    page = browser.new_page()
    page.goto((task / "for_raters" / "ann.html").as_uri())
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.pwned = 1\">');"
        "const late = document.createElement('script'); late.textContent = 'window.pwned = 2';"
        "document.body.append(late)"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    page.close()


def test_an_item_with_gaps_is_not_finished(page: "Page", tmp_path: Path, task: Path) -> None:
    page.click("#next")
    assert page.locator("#heading").inner_text() == "Item 1 of 3"
    assert page.locator(".problem:visible").count() == 11
    assert page.evaluate("document.activeElement.name") == "claim_supported_left"
    assert page.locator("input[name=comparison]").first.get_attribute("aria-invalid") == "true"
    rate_item(page, 2)
    looked_up = page.locator("input[value=yes]:checked").get_attribute("name").removeprefix("claim_supported_")
    page.fill(f"#claim_url_{looked_up}", "javascript:alert(1)")
    page.click("#next")
    assert page.locator(".problem:visible").all_inner_texts() == ["The address must begin with https:// or http://."]
    page.fill(f"#claim_url_{looked_up}", "http://example.org")
    assert page.locator(".problem:visible").count() == 0
    for _ in range(3):
        page.click("#items li:last-child button")
    page.click("#next")
    assert page.locator("#heading").inner_text() == "Item 3 of 3"


def test_by_keyboard_alone(page: "Page") -> None:
    page.locator("input[name=claim_supported_left]").first.focus()
    for key in ("Space", "ArrowRight", "ArrowRight"):  # yes, no, nothing
        page.keyboard.press(key)
    assert page.locator("input[name=claim_supported_left][value=nothing]").is_checked()
    assert page.locator("#claim-left").is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "errors_left"
    outline = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert page.evaluate(outline) == "solid"


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_screen(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    choose(page, "claim_supported_left", "yes")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.locator(".choices span").evaluate_all("all => all.filter(one => one.offsetHeight < 36).length")
    assert small == 0


def test_storage_that_forgets_is_said(browser: "Browser", task: Path) -> None:
    page = browser.new_page()
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    page.goto((task / "for_raters" / "ann.html").as_uri())
    assert page.locator("#forgets").is_visible()
    page.close()


# What a browser does that opens a file again before it has seen what was last written: it shows the storage of `OLDER`.
STALE = """
const older = JSON.parse('OLDER');
const getItem = Storage.prototype.getItem;
window.caughtUp = false;
Storage.prototype.getItem = function (key) { return caughtUp ? getItem.call(this, key) : older[key] ?? null; };
"""


def reopened(page: "Page", older: dict[str, str]) -> "Page":
    """The page in another tab, whose storage is an older one until `window.caughtUp`."""
    tab = page.context.new_page()
    tab.add_init_script(STALE.replace("OLDER", json.dumps(older).replace("\\", "\\\\")))
    tab.goto(page.url)
    return tab


def storage(page: "Page") -> dict[str, str]:
    return dict(page.evaluate("({ ...localStorage })"))


def test_an_older_storage_writes_nothing_back(page: "Page") -> None:
    choose(page, "errors_left", 2)
    older = storage(page)
    choose(page, "errors_left", 1)
    page.click("#items li:nth-child(2) button")
    page.fill("#comment", "newer")
    newer = storage(page)

    tab = reopened(page, older)
    assert tab.locator("#heading").inner_text() == "Item 1 of 3"
    assert tab.locator("input[name=errors_left][value='2']").is_checked()
    assert storage(tab) == newer
    for event in ("storage", "pageshow", "visibilitychange"):
        tab.evaluate(f"caughtUp = true; dispatchEvent(new Event('{event}'))")
        assert tab.locator("#heading").inner_text() == "Item 2 of 3"
        assert tab.input_value("#comment") == "newer"
        tab.reload()
        assert tab.locator("#heading").inner_text() == "Item 1 of 3"
    assert storage(tab) == newer


def test_a_reload_that_loses_the_storage_loses_no_rating(page: "Page") -> None:
    choose(page, "errors_left", 2)
    page.fill("#comment", "kept")
    before = storage(page)
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.locator("input[name=errors_left][value='2']").is_checked()
    assert page.input_value("#comment") == "kept"
    assert before.items() <= storage(page).items()  # for the next tab


def test_what_is_filled_in_on_an_older_storage_takes_nothing_away(page: "Page") -> None:
    older = storage(page)
    choose(page, "errors_left", 2)
    choose(page, "relevance_left", 2)
    page.fill("#comment", "newer")

    tab = reopened(page, older)
    choose(tab, "errors_left", 1)
    tab.locator("#comment").press_sequentially("mine")
    tab.evaluate("caughtUp = true; dispatchEvent(new Event('pageshow'))")
    for one in (tab, page):
        until(lambda one=one: one.input_value("#comment") == "mine", pause=lambda: page.wait_for_timeout(20))
        assert one.locator("input[name=errors_left][value='1']").is_checked()
        assert one.locator("input[name=relevance_left][value='2']").is_checked()
    tab.close()


def test_two_tabs_know_of_each_other(page: "Page") -> None:
    tab = page.context.new_page()
    tab.goto(page.url)
    page.bring_to_front()  # what is behind is drawn once a second
    rate_item(page, 1)
    tab.bring_to_front()
    tab.click("#items li:last-child button")
    rate_item(tab, 1)
    tab.click("#next")
    for one in (tab, page):
        until(
            lambda one=one: one.locator("#count").inner_text() == "2 of 3 finished",
            pause=lambda: page.wait_for_timeout(20),
        )
    assert page.locator("#heading").inner_text() == "Item 1 of 3"  # each stays where it is
    assert "2 of 3 items are finished. Still open: 2." in tab.locator("#end-text").inner_text()
    tab.close()


def test_scripts_from_generations_to_report(
    page: "Page", task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eval/human.py` on what a rater who had to stop early hands back."""
    rate_item(page, -1)
    page.click("#next")
    page.click("#items li:last-child button")
    rate_item(page, -1)
    page.click("#next")
    assert "2 of 3 items are finished. Still open: 2." in page.locator("#end-text").inner_text()
    with page.expect_download() as started:
        page.click("#download")
    started.value.save_as(tmp_path / "ann.csv")

    def run(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["human.py", *map(str, arguments)])
        return int(runpy.run_path(str(EVAL / "human.py"))["main"]())

    out = tmp_path / "again"
    names = ["--llm", "qwen", "--label_source", "forest", "--raters", "ann", "bob", "--seed", 1, "--out", out]
    files = ["--model", tmp_path / "model.parquet", "--baseline", tmp_path / "baseline.parquet"]
    assert run("export", *files, *names) == 0
    assert (out / "for_raters/ann.html").read_bytes() == (task / "for_raters/ann.html").read_bytes()
    assert read_table(out / "key.parquet", KEY).equals(read_table(task / "key.parquet", KEY))
    assert run("import", "--key", out / "key.parquet", "--out", tmp_path / "r.parquet", tmp_path / "ann.csv") == 0
    assert pl.read_parquet(tmp_path / "r.parquet")["comparison"].to_list() == [-1, -1]
    assert run("score", "--ratings", tmp_path / "r.parquet", "--out", tmp_path / "scores") == 0
    assert json.loads((tmp_path / "scores/human.json").read_text())["groups"][0]["comparison"]["mean"] == -1
    assert "the baseline's in 100.0 %" in (tmp_path / "scores/human.md").read_text()
    assert run("import", "--key", out / "key.parquet", "--out", tmp_path / "x.parquet", tmp_path / "none.csv") == 2
    assert not (tmp_path / "x.parquet").exists()
