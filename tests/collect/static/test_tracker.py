"""The tracker in a real Chromium, by what arrives at a server: consent, withdrawal, tabs, outages, touch."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import waiting
from tests.collect.static.pages import DIALOG, LEFT, RIGHT, SECRET, TAG, opened, read, until
from tests.collect.wire import ME, WireServer, token_of


@pytest.fixture
def open_page(browser: Any, wire: WireServer) -> Iterator[Callable[..., Any]]:
    with opened(browser, wire) as open_page:
        yield open_page


def test_before_consent_nothing_is_sent_kept_or_listened_to(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    read(page, 5)
    page.fill("#query", SECRET)
    page.evaluate("tracker.submit(); tracker.streamEnd(document.querySelector('#left')); tracker.flush()")
    page.evaluate("tracker.thumb(document.querySelector('#left'), 1)")
    page.clock.run_for(600)
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.goto("about:blank")
    page.wait_for_timeout(200)
    assert wire.log == []


def test_what_is_recorded_after_consent(open_page: Any, wire: WireServer) -> None:
    page = open_page(real_time=True)
    before = time.time() * 1_000
    page.evaluate("tracker.grantConsent()")
    read(page)
    page.fill("#query", SECRET)
    page.keyboard.type("more")
    page.mouse.wheel(0, 37)
    page.wait_for_timeout(200)
    page.evaluate("document.querySelector('#scroller').scrollTop = 0")
    page.evaluate("document.querySelector('#later').innerHTML = `<b data-ifllm-response='RIGHT'>" + RIGHT + "</b>`")
    page.evaluate("for (const f of ['streamStart', 'streamEnd']) tracker[f](document.querySelector('#later b'))")
    page.evaluate("tracker.submit(); tracker.thumb(document.querySelector('#left').firstChild.parentNode, -1)")
    page.evaluate(
        "tracker.vote(document.querySelector('#left')); tracker.regenerate(document.querySelector('#later b'))"
    )
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#later b')); document.execCommand('copy')")
    read(page, 8, "#later b")
    page.set_viewport_size({"width": 901, "height": 600})
    page.wait_for_timeout(200)
    page.evaluate("tracker.stop()")
    ticks, events = wire.ticks(), wire.events()
    assert {tick[1] for tick in ticks} == {"LEFT", "RIGHT"}
    assert all(tick[5] == 0 for tick in ticks)
    left = [c for _, token, _, _, c, _ in ticks if token == "LEFT"]
    assert sorted(left[:10]) == left[:10]
    assert max(left) > 8
    assert max(c for _, token, _, _, c, _ in ticks if token == "RIGHT") <= len(RIGHT)
    times = [tick[0] for tick in ticks]
    assert sorted(times) == times
    steps = sorted(b - a for a, b in itertools.pairwise(times))
    assert 70 <= steps[len(steps) // 2] <= 110  # sample and hold, every 80 ms
    named = {(name, token, value) for _, name, token, value in events}
    assert {
        ("consent", None, None),
        ("shown", "LEFT", None),
        ("shown", "RIGHT", None),
        ("first_key", None, None),
        ("stream_start", "RIGHT", None),
        ("stream_end", "RIGHT", None),
        ("thumb", "LEFT", -1),
        ("vote", "LEFT", None),
        ("regenerate", "RIGHT", None),
        ("copy", "RIGHT", len(RIGHT)),
    } <= named
    assert sum(name == "first_key" for _, name, _, _ in events) == 1  # typing after it is not timed
    for entry in wire.log:
        assert not any(word.encode() in entry["body"] for word in ("secret", "twelve", "answer", "more"))
    batches = list(wire.batches.values())
    assert [batch["sequence"] for batch in batches] == list(range(len(batches)))
    assert all(batch["consent"] == "2026-11-29" and batch["viewport"][2] == 1 for batch in batches)
    assert all(before - 60_000 < batch["origin"] <= before for batch in batches)


def test_outside_the_answers_and_under_other_things_there_are_no_ticks(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("tracker.grantConsent()")
    read(page, 3)
    page.mouse.move(5, 5)
    page.clock.run_for(200)
    page.evaluate("tracker.flush()")
    until(page, lambda: wire.ticks())
    count = len(wire.ticks())
    read(page, 6, "#outside")
    cover = "position: fixed; inset: 0; background: #fff"
    page.evaluate(f"document.body.insertAdjacentHTML('beforeend', `<div id='cover' style='{cover}'>cover</div>`)")
    read(page, 6)
    page.evaluate("tracker.stop()")
    assert len(wire.ticks()) == count


def test_leaving_an_answer_is_said(open_page: Any, wire: WireServer) -> None:
    """For the page around it, for what lies on it, with the answer itself, and with the page."""
    page = open_page()
    page.evaluate("tracker.grantConsent()")
    leaves = [
        lambda: read(page, 2, "#outside"),
        lambda: page.evaluate("document.body.append(Object.assign(document.createElement('dialog'), { open: true }))"),
        lambda: page.evaluate("document.querySelector('#left').removeAttribute('data-ifllm-response')"),
        lambda: page.goto("about:blank"),
    ]
    for happens in leaves:
        page.evaluate("document.querySelector('#left').dataset.ifllmResponse = 'LEFT'")
        page.evaluate("document.querySelector('dialog')?.remove()")
        page.mouse.move(5, 5)
        read(page, 3)
        happens()
        if "blank" not in page.url:
            page.clock.run_for(200)
    until(page, lambda: sum(event[1] == "leave" for event in wire.events()) == len(leaves))
    assert {tuple(event[1:]) for event in wire.events() if event[1] == "leave"} == {("leave", "LEFT", 0)}


def test_a_still_cursor_follows_what_scrolls_under_it(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("document.querySelector('#left').innerHTML = 'one<br>two<br>six<br>ten'; tracker.grantConsent()")
    box = page.locator("#left").bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 20)
    for top in (0, 40, 80, 120):
        page.evaluate(f"document.querySelector('#scroller').scrollTop = {top}")
        page.clock.run_for(250)
    page.evaluate("tracker.stop()")
    assert sorted({tick[4] for tick in wire.ticks()}) == [0, 3, 6, 9]
    assert {(tick[2], tick[3]) for tick in wire.ticks()} == {(round(box["x"] + 4), round(box["y"] + 20))}


@pytest.mark.parametrize("change", ["removeAttribute('data-ifllm-response')", "dataset.ifllmResponse = ''"])
def test_an_answer_that_is_no_more_takes_nothing_with_it(open_page: Any, wire: WireServer, change: str) -> None:
    """It was on screen when its mark went, as when a page makes room for the next answer, and is scrolled then."""
    page = open_page()
    mark = "document.querySelector('#later').innerHTML = `<b data-ifllm-response='RIGHT'>" + RIGHT + "</b>`"
    page.evaluate(mark + "; tracker.grantConsent()")
    read(page, of="#later b")
    page.evaluate(f"document.querySelector('#left').{change}")
    page.evaluate("document.querySelector('#scroller').scrollTop = 30")
    page.clock.run_for(300)
    page.evaluate("tracker.stop()")
    until(page, lambda: len(wire.ticks()) >= 8)
    tokens = {token for batch in wire.batches.values() for token in batch["responses"]}
    assert tokens <= {"LEFT", "RIGHT"}
    assert {tick[1] for tick in wire.ticks()} == {"RIGHT"}


def test_withdrawal_in_mid_session_deletes_and_nothing_follows(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("tracker.grantConsent()")
    read(page)
    until(page, lambda: wire.ticks())
    page.evaluate("tracker.withdraw()")
    read(page)
    page.evaluate("tracker.grantConsent(); tracker.submit(); tracker.flush()")
    page.clock.run_for(500)
    page.goto("about:blank")
    page.wait_for_timeout(200)
    assert [(entry["method"], entry["path"]) for entry in wire.log].count(("DELETE", ME)) == 1
    last = wire.log[-1]
    assert (last["method"], last["path"]) == ("DELETE", ME)
    assert last["headers"]["authorization"] == "Bearer person token"
    assert last["body"] == b""


def test_withdrawal_while_the_server_is_away_is_kept_up(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("tracker.grantConsent()")
    wire.stop()
    read(page, 6)
    page.evaluate("window.done = false; void tracker.withdraw().then(() => window.done = true)")
    page.clock.run_for(300)
    wire.start()
    waiting.until(lambda: page.evaluate("done"), 10, lambda: page.clock.run_for(100))
    # On a busy machine, a try that was under way when they withdrew may still arrive; the deletion comes after it.
    assert [entry["method"] for entry in wire.log] in (["DELETE"], ["POST", "DELETE"])
    wire.answers = [401]
    refusal = page.evaluate("make({}).withdraw().then(() => 'done', String)")
    assert "refused" in refusal
    assert "401" in refusal


def test_two_tabs_do_not_mix(open_page: Any, wire: WireServer) -> None:
    tabs = [open_page(), open_page()]
    for n, tab in enumerate(tabs):
        tab.evaluate(f"document.querySelector('#left').setAttribute('data-ifllm-response', 'TAB{n}')")
        tab.evaluate("tracker.grantConsent()")
    for tab in (*tabs, *tabs):
        tab.bring_to_front()
        read(tab, 6)
    for tab in tabs:
        tab.evaluate("tracker.stop()")
    sessions = {session for session, _ in wire.batches}
    assert len(sessions) == 2
    for session in sessions:
        assert len({tick[1] for tick in wire.ticks(session)}) == 1
        assert len(wire.ticks(session)) > 5
        numbers = sorted(sequence for owner, sequence in wire.batches if owner == session)
        assert numbers == list(range(len(numbers)))


def test_an_outage_of_30_s_loses_nothing_and_keeps_the_order(open_page: Any, wire: WireServer) -> None:
    """The time is the page's; the port really refuses connections."""
    page = open_page()
    page.evaluate("make({ flushMs: 5000, retryMs: [1000, 30000] }); tracker.grantConsent()")
    box = page.locator("#left").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 20)
    page.clock.run_for(6_000)
    until(page, lambda: wire.batches)
    wire.stop()
    for _ in range(60):
        page.clock.run_for(500)
    assert wire.log[-1]["method"] == "POST"
    held = len(wire.ticks())
    wire.start()
    for _ in range(90):
        page.clock.run_for(500)
    page.evaluate("tracker.stop()")
    times = [tick[0] for tick in wire.ticks()]
    assert times == sorted(times)
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert set(steps) == {80}
    assert times[-1] - times[0] > 70_000
    assert len(times) > held + 800
    assert not [event for event in wire.events() if event[1] == "dropped"]
    arrived = [batch["sequence"] for batch in wire.batches.values()]
    assert arrived == list(range(len(arrived)))
    assert len(arrived) < 20  # what gathers in an outage goes out in few batches


def test_leaving_the_page_sends_the_rest(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("make({ flushMs: 1e6 }); tracker.grantConsent()")
    read(page)
    assert wire.log == []
    page.goto("about:blank")
    until(page, lambda: wire.ticks())
    assert len(wire.ticks()) >= 8


def test_a_text_that_is_not_the_registered_one_gives_no_offsets(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("window.problems = []; document.addEventListener('ifllm:problem', (e) => problems.push(e.detail))")

    def chars(change: str, registered: str | None = None) -> set[int]:
        """What a second of reading leaves when the page has changed, and the answer another token."""
        if registered is not None:
            change += f"; left.dataset.ifllmResponse = '{token_of(registered)}'"
        page.evaluate(f"const left = document.querySelector('#left'); {change}; 0")
        before = len(wire.ticks())
        read(page)
        page.evaluate("tracker.flush()")
        until(page, lambda: len(wire.ticks()) >= before + 8)
        return {tick[4] for tick in wire.ticks()[before:]}

    page.evaluate("make({ flushMs: 1e6 }); tracker.grantConsent()")
    assert min(chars("", LEFT)) == 0
    assert chars("left.innerHTML = '<font><font>Die linke Antwort, die jemand liest.</font></font>'") == {-2}
    assert min(chars(f"left.textContent = '{LEFT}'")) == 0
    assert min(chars("left.append('Copied!')")) == 0  # behind it all offsets hold
    assert chars("left.prepend('Thought for 3 s')") == {-2}
    assert chars(f"left.textContent = '{LEFT}'.replace('a', 'b')") == {-2}  # of the same length
    assert chars("", f"**{LEFT}**") == {-2}  # the source in place of what is shown
    assert min(chars("tracker.streamStart(left)")) == 0  # a stream lags behind what is registered
    assert chars("tracker.streamEnd(left)") == {-2}
    assert -2 not in chars("left.textContent = '🙂 grows'", "")  # with every text a text begins
    assert -2 not in chars("", "🙂 gro")  # code points, in UTF-8
    assert page.evaluate("problems.map(({ problem }) => problem)") == ["other_text"]
    page.evaluate("Object.defineProperty(crypto, 'subtle', { value: undefined })")  # as on plain http
    assert -2 not in chars("", "🙂 grows")
    assert chars("left.append('!')") == {-2}


def test_touch_and_pen_are_flagged(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate("tracker.grantConsent()")
    box = page.locator("#left").bounding_box()
    devtools = page.context.new_cdp_session(page)
    for kind, moved in (("touchStart", 0), ("touchMove", 4), ("touchEnd", None)):
        points = [] if moved is None else [{"x": box["x"] + 40 + moved, "y": box["y"] + 20}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.clock.run_for(200)
    page.evaluate("tracker.flush()")
    assert {tick[5] for tick in wire.ticks()} == {2}
    touched = len(wire.ticks())
    page.clock.run_for(400)
    page.evaluate("tracker.flush()")
    assert len(wire.ticks()) == touched  # a lifted finger is nowhere
    pen = {"type": "mouseMoved", "x": box["x"] + 40, "y": box["y"] + 20, "pointerType": "pen"}
    devtools.send("Input.dispatchMouseEvent", pen)
    page.clock.run_for(300)
    page.evaluate("tracker.stop()")
    assert {tick[5] for tick in wire.ticks()[touched:]} == {1}


def test_a_script_tag_is_enough(open_page: Any, wire: WireServer) -> None:
    page = open_page("/tag")
    read(page, 4)
    assert wire.log == []
    page.click("[data-ifllm-consent=grant]")
    read(page, 6)
    page.evaluate("ifllm.flush()")
    until(page, lambda: wire.ticks())
    assert {batch["consent"] for batch in wire.batches.values()} == {"7"}
    page.click("[data-ifllm-consent=withdraw]")
    until(page, lambda: wire.log[-1]["method"] == "DELETE")


def test_a_script_tag_whose_address_is_redirected_is_found(open_page: Any, wire: WireServer) -> None:
    wire.moved["/latest.js"] = "/v2/tracker.js"
    wire.pages["/moved"] = TAG.replace("/tracker.js", "/latest.js")
    page = open_page("/moved")
    page.evaluate("ifllm.grantConsent()")
    read(page, 6)
    page.evaluate("ifllm.stop()")
    until(page, lambda: wire.ticks())
    assert {batch["consent"] for batch in wire.batches.values()} == {"7"}


def test_buttons_work_where_clicks_are_stopped_and_show_whether_it_records(open_page: Any, wire: WireServer) -> None:
    page = open_page("/tag")
    page.evaluate("window.states = []; document.addEventListener('ifllm:state', (e) => states.push(e.detail.state))")
    page.evaluate(
        """(html) => {
          document.body.insertAdjacentHTML("beforeend", html);
          document.querySelector("dialog").addEventListener("click", (event) => event.stopPropagation());
        }""",
        DIALOG,
    )

    def pressed() -> list[str]:
        buttons = page.locator("[data-ifllm-consent]").all()
        return [button.get_attribute("aria-pressed") for button in buttons]

    assert pressed() == ["false"] * 4
    page.click("dialog [data-ifllm-consent=grant]")
    assert pressed() == ["true", "false"] * 2
    read(page, 6)
    page.evaluate("ifllm.flush()")
    until(page, lambda: wire.ticks())
    page.click("dialog [data-ifllm-consent=withdraw]")
    until(page, lambda: page.evaluate("states.at(-1)") == "deleted")
    assert page.evaluate("states") == ["on", "deleting", "deleted"]
    assert pressed() == ["false", "true"] * 2
    assert page.locator("[data-ifllm-consent=grant]").first.is_disabled()
    assert wire.log[-1]["method"] == "DELETE"


def test_gaze_points_of_an_adapter_travel_beside_the_mouse(open_page: Any, wire: WireServer) -> None:
    page = open_page()
    page.evaluate(
        """window.calls = []; const box = document.querySelector('#left').getBoundingClientRect();
        make({ gaze: { start: (onPoint) => { calls.push('start'); look = () => onPoint(box.x + 30.4, box.y + 20) },
                       stop: () => calls.push('stop') } }); 0"""
    )
    assert page.evaluate("calls") == []
    page.evaluate("tracker.grantConsent(); look()")
    page.clock.run_for(250)
    page.evaluate("tracker.stop()")
    assert page.evaluate("calls") == ["start", "stop"]
    (batch,) = wire.batches.values()
    assert batch["ticks"] == []
    assert {(c, p) for _, _, _, _, c, p in batch["gaze"]} == {(2, 3)}  # 30 px at 12 px a character
