"""The browser that pages of the docs are opened in."""

from tests.browser import browser

__all__ = ["browser"]
