"""Pages made from templates, with texts that LLMs and crowd workers wrote."""

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(file: Path) -> "Template":
    """A Jinja template, beside which those that it includes stand.

    Whatever is filled in is escaped, and a name that is not given is an error. The filter `n` writes 1,234; `signed`
    writes so many digits (default: 4) with a minus sign in place of a hyphen.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    environment.filters["n"] = lambda value: f"{value:,}"
    environment.filters["signed"] = lambda value, digits=4: f"{value:.{digits}f}".replace("-", "\u2212")
    return environment.get_template(file.name)


def csp_source(content: str) -> str:
    """How a content security policy names one inline script or style and no other (CSP Level 3, 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
