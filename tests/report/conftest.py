"""The browser in which replays play."""

from tests.browser import browser

__all__ = ["browser"]
