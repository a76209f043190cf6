"""What MkDocs asks for while it builds the site."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Without the names of code blocks, which stand behind the language for the tests, and which MkDocs cannot read."""
    return re.sub(r"^(```\w+) .+$", r"\1", markdown, flags=re.MULTILINE)
