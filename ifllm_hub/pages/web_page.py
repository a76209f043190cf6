"""HTML and Markdown from templates, filled with texts that LLMs and crowd workers wrote."""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def page_template(file: Path) -> "Template":
    """A Jinja template; those that it includes lie beside it.

    Values are escaped, and an undefined name is an error. The filter `n` writes 1,234; `signed` writes the given number
    of decimals (default: 4), with a minus sign in place of a hyphen.
    """
    environment = templates(file.parent, escape=True)
    environment.filters["n"] = lambda value: f"{value:,}"
    environment.filters["signed"] = lambda value, digits=4: f"{value:.{digits}f}".replace("-", "\u2212")
    return environment.get_template(file.name)


def templates(folder: Path, escape: bool) -> "Environment":
    """The templates of a folder; an undefined name is an error.

    Args:
        escape: escape values for HTML. Otherwise the template is text that keeps its last line break, such as Markdown.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
        autoescape=escape,
    )


def csp_source(content: str) -> str:
    """How a content security policy names one inline script or style and no other (CSP Level 3, 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
