"""What code, tests and pages refer to is there: pages, sections, traps and bugs by number; no path of one machine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ifllm_hub", "eval", "training", "benchmarks", "examples", "tests", "docs", "dataset_card", ".github")
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".jinja", ".js", ".mjs", ".ts", ".txt", ".toml", ".html"}
FORMAT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
NUMBERED = set(re.findall(r"^\| ([TB]\d+) \|", FORMAT, re.MULTILINE))
SECTIONS = set(re.findall(r"^## (\d)\. |^\*\*(\d\.\d) ", FORMAT, re.MULTILINE))


def texts() -> dict[str, str]:
    """Every text file of the repository that a person writes, by its path."""
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml")]
    files += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    # The shipped model's card is written by `ifllm reward`, and has the paths of its day.
    kept = [path for path in files if "__pycache__" not in path.parts and "default" not in path.parts]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in kept}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return {name: text for name, text in texts().items() if name != str(Path(__file__).relative_to(ROOT))}


def test_the_pages_that_are_named_exist(written: dict[str, str]) -> None:
    assert len(written) > 200
    missing = {
        (name, page)
        for name, text in written.items()
        for page in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|png|js)", text)
        if not (ROOT / page).is_file()
    }
    assert not missing


def test_numbers_of_the_format_page_are_on_it(written: dict[str, str]) -> None:
    sections = {number for pair in SECTIONS for number in pair if number}
    assert {f"T{number}" for number in range(1, 15)} | {f"B{number}" for number in range(1, 16)} == NUMBERED
    cited = 0
    for name, text in written.items():
        for place in re.findall(r"docs/format\.md,? ([^)\n:]*)", text):
            for number in re.findall(r"\b[TB]\d+\b", place):
                assert number in NUMBERED, (name, place)
                cited += 1
            for number in re.findall(r"(?<![\w.])\d(?:\.\d)?(?![\w.]\d)", place):
                assert number in sections, (name, place)
                cited += 1
    assert cited >= 8


def test_no_page_of_one_machine_is_named(written: dict[str, str]) -> None:
    for name, text in written.items():
        assert not re.search(r"\.\./sha[r]ed|\bheadroom\.md|(?<![\w/])release\.md", text), name
