"""What the tracker takes of a page's main thread."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.collect.static.pages import opened
from tests.collect.wire import WireServer


@pytest.fixture
def open_page(browser: Any, wire: WireServer) -> Iterator[Callable[..., Any]]:
    with opened(browser, wire) as open_page:
        yield open_page


@pytest.mark.slow
def test_the_cost_on_the_main_thread(open_page: Any, wire: WireServer) -> None:
    """The time in all functions of the tracker while the mouse moves over a long answer, as a share of all time.

    A function that the machine interrupts looks slow: medians of each function's time, times its calls, are counted.
    """
    page = open_page(real_time=True)
    markdown = "".join(f"<p>{n}. <b>Words</b> of <i>an answer</i>. {'and so on ' * 12}</p>" for n in range(20))
    page.evaluate("(html) => document.querySelector('#left').innerHTML = html", markdown)
    page.evaluate(
        """window.spent = {};
        const timed = (name, f) => (...args) => {
          const start = performance.now(), result = f(...args);
          (spent[name] ??= []).push(performance.now() - start);
          return result;
        };
        const [every, listen] = [setInterval, addEventListener];
        window.setInterval = (f, ms) => every(timed("tick", f), ms);
        window.addEventListener = (type, f, options) => listen(type, timed(type, f), options);
        make({ flushMs: 1000 });
        tracker.grantConsent();"""
    )
    box = page.locator("#scroller").bounding_box()
    began = time.monotonic()
    for step in range(100):
        page.mouse.move(box["x"] + 5 + step * 13 % 600, box["y"] + 10 + step)
        page.wait_for_timeout(15)
    seconds = time.monotonic() - began
    spent = page.evaluate("spent")
    page.evaluate("tracker.stop()")
    share = sum(len(times) * statistics.median(times) for times in spent.values()) / 1_000 / seconds
    print(f"{100 * share:.2f} % of the main thread;", {n: (len(t), statistics.median(t)) for n, t in spent.items()})  # noqa: T201
    assert len(spent["tick"]) > 10
    assert len(wire.ticks()) > 10
    assert share < 0.03  # 1 % on a machine that does nothing else
