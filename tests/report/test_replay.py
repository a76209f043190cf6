"""The replay page: what it holds, what it shows in a real Chromium, and that hostile text stays text."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.report.replay import write_replay
from tests.waiting import until

HOSTILE = (
    "</script><script>document.title = 'owned'</script>"
    "<img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">"
    " <!-- {{7*7}} {% raw %} </div></style> & &amp; \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 مرحبا"
    " \u202eorder\u202c"
    "\r\nnew line\t\u2028end"
)


@pytest.fixture(scope="module")
def questions(dataset: Path) -> dict[str, int]:
    """One question of each kind, much of it read."""
    rows = load_config(dataset, "trajectories")
    read = rows.with_columns(read=pl.col("mouse_char_left").list.eval(pl.element() >= 0).list.sum())
    return {mode: group.sort("read")["question_id"][-1] for (mode,), group in read.group_by("mode")}


@pytest.fixture
def open_replay(browser: Any) -> Any:
    """A function that opens a page; it fails on any error, blocked content or request."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []

    def open_replay(path: Path, width: int = 1280) -> Any:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 844})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return page

    yield open_replay
    context.close()
    assert complaints == []


def payload(page: Path) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="reading">(.*)</script>', page.read_text())[0])


def test_the_page_holds_the_reading_and_loads_nothing(dataset: Path, questions: dict[str, int], tmp_path: Path) -> None:
    for mode, question_id in questions.items():
        page = write_replay(dataset, question_id, tmp_path / f"{mode}.html")
        html = page.read_text()
        (row,) = load_config(dataset, "trajectories").filter(pl.col("question_id") == question_id).to_dicts()
        (question,) = load_config(dataset, mode).filter(pl.col("question_id") == question_id).to_dicts()
        reading = payload(page)
        assert reading["t"] == row["t"]
        assert reading["chars"]["mouse"] == [row["mouse_char_left"], row["mouse_char_right"]]
        assert reading["chars"]["gaze"] == [row["gaze_char_left"], row["gaze_char_right"]]
        sides = ("response",) if mode == "pointwise" else ("response_left", "response_right")
        assert [answer["text"] for answer in reading["answers"]] == [question[side] for side in sides]
        assert not re.search(
            r"https?://(?!www\.w3\.org)|src=|href=|url\(|@import", re.sub(r'id="reading">.*', "", html)
        )
        policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)[0]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for kind, content in re.findall(r"<(script|style)>(.*?)</\1>", html, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy
        assert "not by pixel" in html
        assert write_replay(dataset, question_id, tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_every_moment_shows_what_was_recorded(
    dataset: Path, questions: dict[str, int], tmp_path: Path, open_replay: Any
) -> None:
    path = write_replay(dataset, questions["pairwise"], tmp_path / "replay.html")
    reading = payload(path)
    page = open_replay(path)
    page.uncheck("#skip")
    t, (left, right) = reading["t"], reading["chars"]["mouse"]
    last = t[-1] - t[0]
    for moment in (0, last // 7, last // 3, last // 2, last * 3 // 4, last):
        page.evaluate(
            "(ms) => { const s = document.querySelector('#scrub'); s.value = ms; s.dispatchEvent(new Event('input')) }",
            moment,
        )
        tick = max(i for i, ms in enumerate(t) if ms - t[0] <= moment)
        for side, chars in enumerate((left, right)):
            shown = page.evaluate(
                """(side) => {
                  const cursor = document.querySelectorAll('.cursor')[side];
                  if (cursor.hidden) return -1;
                  const ring = cursor.getBoundingClientRect(), spans = [...cursor.parentNode.querySelectorAll('span')];
                  const x = ring.x + ring.width / 2, y = ring.y + ring.height / 2;
                  return spans.findIndex((span) => [...span.getClientRects()].some((b) =>
                    b.left - 1 <= x && x <= b.right + 1 && b.top - 1 <= y && y <= b.bottom + 1));
                }""",
                side,
            )
            if chars[tick] < 0:
                assert shown == -1
            else:  # the simulated answers have no characters of several code points
                assert abs(shown - chars[tick]) <= 1
            dwell = sum(min(t[i + 1] - t[i], 1_000) for i in range(min(tick + 1, len(t) - 1)) if chars[i] >= 0)
            facts = page.locator(".facts").nth(side).text_content()
            assert f"{dwell / 1_000:.1f} s under the mouse" in facts


def test_the_heat_is_the_time_near_each_character(
    dataset: Path, questions: dict[str, int], tmp_path: Path, open_replay: Any
) -> None:
    path = write_replay(dataset, questions["pointwise"], tmp_path / "replay.html")
    reading = payload(path)
    page = open_replay(path)
    t, chars = reading["t"], reading["chars"]["mouse"][0]
    expected = []
    for place in range(len(reading["answers"][0]["text"])):
        ms = sum(
            min(t[i + 1] - t[i], 1_000) * max(0, 1 - abs(char - place) / 20)
            for i, char in enumerate(chars[:-1])
            if char >= 0
        )
        expected.append(sum(ms >= low - 1e-6 for low in (1, 250, 500, 1_000, 2_000, 4_000)))
    classes = page.evaluate("[...document.querySelectorAll('.text span')].map((span) => span.className)")
    levels = [int(name[1:] or 0) if name else 0 for name in classes]
    assert len(levels) == len(expected)
    assert max(levels) >= 2
    assert sum(a != b for a, b in zip(levels, expected, strict=True)) <= 1  # sums on a bound may round either way
    assert page.locator("#curve path").get_attribute("d").count("M") >= 1


def test_it_plays_and_pauses(dataset: Path, questions: dict[str, int], tmp_path: Path, open_replay: Any) -> None:
    page = open_replay(write_replay(dataset, questions["pairwise"], tmp_path / "replay.html"))
    page.select_option("#speed", "8")
    page.click("#play")
    assert page.text_content("#play") == "Pause"
    # The page's policy forbids Playwright's own way of waiting.
    until(lambda: int(page.input_value("#scrub")) > 1_500)
    page.click("#play")
    stopped = page.input_value("#scrub")
    page.wait_for_timeout(150)
    assert page.input_value("#scrub") == stopped
    if page.locator("#modality option").count() == 2:
        page.select_option("#modality", "gaze")
        assert "under the gaze" in page.locator(".facts").first.text_content()


def test_hostile_text_is_shown_as_text_and_emoji_stay_whole(
    dataset: Path, questions: dict[str, int], tmp_path: Path, open_replay: Any
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    for split in SPLITS:
        path = parquet_path(folder, "pairwise", split)
        texts = ("query", "response_left", "response_right")
        pl.read_parquet(path).with_columns(**dict.fromkeys(texts, pl.lit(HOSTILE))).write_parquet(path)
    page = open_replay(write_replay(folder, questions["pairwise"], tmp_path / "replay.html"))
    assert page.title().startswith("Replay of question")
    assert [box.text_content() for box in page.locator(".text").all()] == [HOSTILE, HOSTILE]
    assert page.locator("main img, .query img").count() == 0
    spans = page.evaluate("[...document.querySelectorAll('.text span')].map((span) => span.textContent)")
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f467" in spans
    assert "e\u0301" in spans


def test_nothing_is_wider_than_a_phone(
    dataset: Path, questions: dict[str, int], tmp_path: Path, open_replay: Any
) -> None:
    for mode, question_id in questions.items():
        page = open_replay(write_replay(dataset, question_id, tmp_path / f"{mode}.html"), width=390)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("#play").is_visible()


def test_bad_input_is_said_and_nothing_is_written(dataset: Path, questions: dict[str, int], tmp_path: Path) -> None:
    out = tmp_path / "replay.html"
    with pytest.raises(IfllmError, match="'trajectories' has 0 rows for question 987654321"):
        write_replay(dataset, 987654321, out)
    with pytest.raises(IfllmError, match="no such dataset folder"):
        write_replay(tmp_path / "nowhere", 1, out)
    with pytest.raises(IfllmError, match="cannot be written"):
        write_replay(dataset, questions["pairwise"], tmp_path / "no" / "folder" / "replay.html")
    folder = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    for split in SPLITS:
        path = parquet_path(folder, "trajectories", split)
        rows = pl.read_parquet(path)
        lists = {name: type_ for name, type_ in rows.schema.items() if isinstance(type_, pl.List)}
        rows.with_columns(pl.lit([], dtype=type_).alias(name) for name, type_ in lists.items()).write_parquet(path)
    with pytest.raises(IfllmError, match="nothing was recorded for question"):
        write_replay(folder, questions["pairwise"], out)
    parquet_path(folder, "trajectories", "train").unlink()
    with pytest.raises(IfllmError, match="missing"):
        write_replay(folder, questions["pairwise"], out)
    assert not list(tmp_path.glob("*.html")) + list(tmp_path.glob(".*"))


@pytest.mark.real
def test_real_readings_can_be_replayed(real_dataset: tuple[Path, float], tmp_path: Path, open_replay: Any) -> None:
    rows = load_config(real_dataset[0], "trajectories").filter(pl.col("t").list.len() > 0)
    for question_id in rows.sort("question_id")["question_id"].gather_every(rows.height // 5).to_list():
        page = open_replay(write_replay(real_dataset[0], question_id, tmp_path / f"{question_id}.html"), width=390)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
