"""The study on a phone, by real touches: what was on the screen is what the page's own geometry says, to the export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.viewport import views
from ifllm_hub.report.replay import write_replay
from ifllm_hub.terms import SIDES
from tests.collect.store.processes import free_port, start_server

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
# An independent record: at every frame, the boxes of all characters of both answers against the window.
RECORD = """() => {
  window.seen = [...document.querySelectorAll("[data-ifllm-complete]")].map((answer) => {
    const range = document.createRange(), boxes = [], ms = [];
    const node = answer.firstChild;
    for (let at = 0; at < node.length; at++) {
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const box = [...range.getClientRects()].find(({ width }) => width > 0);
      boxes.push(box ? box.top + box.height / 2 - answer.getBoundingClientRect().top : null);
      ms.push(0);
    }
    return { answer, boxes, ms };
  });
  let before = performance.now();
  window.recording = true;
  const frame = () => {
    const now = performance.now();
    for (const { answer, boxes, ms } of seen) {
      const top = answer.getBoundingClientRect().top;
      boxes.forEach((y, at) => {
        if (y !== null && top + y >= 0 && top + y < innerHeight) ms[at] += now - before;
      });
    }
    before = now;
    if (recording) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


@pytest.fixture
def phone(browser: Any, tmp_path: Path) -> Iterator[Any]:
    port = free_port()
    process = start_server(tmp_path, port, module="tests.collect.study.studied", patience=300)
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://127.0.0.1:{port}")
    page.locator("#agree").wait_for()
    yield page
    context.close()
    process.kill()
    process.wait()


def swipe(page: Any, by: int) -> None:
    """A finger moves up by so many px, and rests; the page follows as it does."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: int) -> None:
        at = [{"x": 200, "y": y} for y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    start = 650 if by > 0 else 150
    touch("touchStart", start)
    for step in range(1, 31):
        touch("touchMove", round(start - by * step / 30))
        page.wait_for_timeout(16)
    page.wait_for_timeout(100)  # no fling
    touch("touchEnd")
    session.detach()
    page.wait_for_timeout(1_200)


def test_a_touch_session(phone: Any, tmp_path: Path) -> None:
    page = phone
    assert page.get_by_text("This device has no mouse pointer").is_visible()
    page.get_by_role("checkbox").tap()
    page.locator("#agree").tap()
    page.locator("#start").tap()
    page.locator("#query textarea").fill("Why do volcanoes erupt?")
    assert page.get_by_text("in the middle of the screen").is_visible()
    assert not page.get_by_text("mouse pointer along").is_visible()
    page.locator("#ask").tap()
    page.locator("[data-ifllm-complete]").nth(1).wait_for()
    page.locator("#ratings").wait_for(state="visible")
    boxes = [page.locator("[data-ifllm-complete]").nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0]["y"] + boxes[0]["height"] < boxes[1]["y"]  # one under the other
    page.wait_for_timeout(1_100)
    page.evaluate(RECORD)
    start = page.evaluate("performance.timeOrigin + performance.now()")
    ends = "document.querySelectorAll('[data-ifllm-complete]')[1].getBoundingClientRect().bottom"
    while page.evaluate(ends) > 700:
        swipe(page, 330)
    swipe(page, -300)
    page.evaluate("recording = false")
    end = page.evaluate("performance.timeOrigin + performance.now()")
    truth = dict(zip(SIDES, page.evaluate("seen.map(({ ms }) => ms)"), strict=True))
    token = page.locator("[data-ifllm-complete]").first.get_attribute("data-ifllm-response")
    page.evaluate("ifllm.flush()")
    scored = page.request.post(page.url.rstrip("/") + "/ifllm/v1/score", data={"token": token}).json()
    assert scored["abstain"]
    assert scored["reason"] in ("touch", "no_cursor")  # whether a finger's first moment was sampled
    page.evaluate("ifllm.stop()")
    page.wait_for_timeout(1_000)

    out = tmp_path / "out"
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    manifest = export_dataset(store, out, Pseudonyms(Secrets.load(tmp_path).pseudonym))
    assert manifest["views"]["kept"] == manifest["views"]["received"] > 20
    store.close()
    trajectories = load_config(out, "trajectories")
    assert trajectories["t"].list.len().item() == 0
    rows = views(trajectories)
    # The page's clock at the question's t = 0: the last of all moments is that of the end.
    question = load_config(out, "pairwise").row(0, named=True)
    appeared = _appeared(tmp_path)
    for side in SIDES:
        exposed = np.zeros(len(question[f"response_{side}"]))
        for row in rows.filter(side=side).iter_rows(named=True):
            began = appeared + row["t"]
            within = max(0, min(began + row["dt"], end) - max(began, start))
            exposed[row["first"] : row["last"] + 1] += within
        expected = np.array(truth[side])
        seen = expected > 0
        assert seen.mean() > 0.8
        off = np.abs(exposed - expected)[seen].sum() / expected[seen].sum()
        print(f"{side}: {100 * off:.1f} % of the exposure differs")  # noqa: T201
        assert off < 0.05
        assert exposed.sum() == pytest.approx(expected.sum(), rel=0.05)
    features = load_config(out, "features").row(0, named=True)
    assert features["mouse_dwell_left"] is None
    assert features["viewport_dwell_left"] > 1_000
    assert features["viewport_coverage_left"] > 0.9
    replayed = write_replay(out, question["question_id"], tmp_path / "replay.html")
    page.goto(replayed.as_uri())
    assert page.locator("#modality option").all_text_contents() == ["viewport"]
    assert "on the screen" in page.locator(".facts").first.text_content()
    assert page.locator(".text span[class^=h]").count() > 100


def _appeared(folder: Path) -> float:
    """When the stream of the first answer began, by the page's clock: where a question's time begins."""
    import json
    import sqlite3

    with sqlite3.connect(folder / STORE_FILE) as connection:
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM batches")]
    return min(body["origin"] + t for body in bodies for t, name, _, _ in body["events"] if name == "stream_start")
