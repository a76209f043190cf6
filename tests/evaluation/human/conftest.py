"""The browser in which pages are rated."""

from tests.browser import browser

__all__ = ["browser"]
