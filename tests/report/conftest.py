"""The browser in which replays play."""

from tests.collect.browser import browser

__all__ = ["browser"]
