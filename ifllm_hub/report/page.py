"""The templates of the pages, with what they all share."""

from pathlib import Path
from typing import Any


def template(name: str) -> Any:
    """A Jinja template of this folder, strict about names, that escapes every text it is given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The texts on the pages were written by LLMs and crowd workers.
        autoescape=True,
    )
    environment.filters["n"] = lambda value: f"{value:,}"
    environment.filters["signed"] = lambda value, digits=4: f"{value:.{digits}f}".replace("-", "\u2212")
    return environment.get_template(name)
