"""Every code block of the README and of docs/ is run, read by the program it is for, or listed here with a reason."""

import os
import re
import shlex
import subprocess
import sys
from itertools import dropwhile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.reward.functions import default_model
from tests.docs.snippets import Fence, blocks, in_order, run

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = {str(path.relative_to(ROOT)): path for path in (README, *sorted((ROOT / "docs").rglob("*.md")))}

# Pages with tests of their own.
ELSEWHERE = {
    "docs/dataset.md": "test_dataset_page.py",
    "docs/collector.md": "test_collector_page.py",
    "docs/chat-products.md": "test_chat_products_page.py",
    "docs/loop.md": "test_loop_page.py",
    "docs/phone.md": "test_phone_page.py",
}
# Python that is not run: a word of the block, and why.
NOT_RUN = {
    "runs/student/seed-0": "a trained student is needed; tests/align/stages runs TextReward",
    "from pyspark": "Spark is not installed",
    "from datatrove": "datatrove is not installed",
}
# Python that trains, which takes its time: run by the slow test.
TRAINS = ("GRPOTrainer(", "FlipProbDPOTrainer(")
# Programs of other projects in shell blocks, and what holds a shell's lines together.
OTHERS = {"accelerate", "done", "for", "git", "hf", "make", "npm", "pip", "ray", "transformers", "trl"}

HERE = [name for name in PAGES if name not in ELSEWHERE]
PYTHON = [name for name in HERE if blocks(PAGES[name].read_text(encoding="utf-8"))]


def shell(name: str) -> list[list[str]]:
    """The commands in the shell blocks of a page, each as words."""
    code = "\n".join(fence.code for fence in of_page(name) if fence.language == "sh").replace("\\\n", " ")
    lines = re.split(r"\n|;|&&|(?<=\s)do(?=\s)", code)
    words = [shlex.split(line.strip().removesuffix("&"), comments=True) for line in lines]
    return [list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), line)) for line in words if line]


def of_page(name: str) -> list[Fence]:
    return in_order(PAGES[name].read_text(encoding="utf-8"))


def excused(code: str) -> bool:
    return any(word in code for word in NOT_RUN)


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_of_a_page_runs(name: str, labeled_dataset: Path, tmp_path: Path) -> None:
    page = PAGES[name].read_text(encoding="utf-8")
    left_out = [code for code, _ in blocks(page) if excused(code) or any(word in code for word in TRAINS)]
    compare(page, run(page, *places(labeled_dataset, tmp_path), model=default_model(), leave_out=left_out), left_out)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PYTHON if any(word in PAGES[name].read_text() for word in TRAINS)])
def test_what_a_page_trains_is_trained(name: str, labeled_dataset: Path, tmp_path: Path) -> None:
    page = PAGES[name].read_text(encoding="utf-8")
    printed = run(page, *places(labeled_dataset, tmp_path), model=default_model(), warnings="default")
    assert [bool(text) for text in printed if "train_loss" in text] == [True]


def places(dataset: Path, scratch: Path) -> tuple[Path, Path]:
    """The dataset, and a folder in which `ifllm` is that dataset too."""
    (scratch / "ifllm").symlink_to(dataset)
    return dataset, scratch


def compare(page: str, printed: list[str], left_out: list[str]) -> None:
    for (code, shown), output in zip(blocks(page), printed, strict=True):
        if shown and code not in left_out:
            assert output.strip() == shown.strip(), code


def test_every_block_is_run_or_read_or_listed() -> None:
    left = [
        (name, fence.code)
        for name in HERE
        for fence in of_page(name)
        if fence.language not in ("python", "text", "sh", "bibtex")
    ]
    assert not left
    code = "".join(fence.code for name in PYTHON for fence in of_page(name))
    assert all(word in code for word in NOT_RUN), "an excuse that no block needs"


@pytest.mark.parametrize("name", [*HERE, "docs/dataset.md"])
def test_the_commands_of_a_page_are_commands(name: str) -> None:
    for words in shell(name):
        if words[0] == "ifllm":
            assert_accepted(words[1:])
        elif words[0] == "python":
            module = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
            assert (ROOT / module).is_file(), words
        else:
            assert words[0] in OTHERS, words
        for word in words:
            if re.match(r"(training|eval)/.+\.(py|yaml)$", word):
                assert (ROOT / word).is_file(), words
        if "--recipe" in words:
            assert (ROOT / "training" / "recipes" / words[words.index("--recipe") + 1]).is_dir(), words


def assert_accepted(words: list[str]) -> None:
    """That `ifllm` has such a command, with these options, and lacks none."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "a command is missing"
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    if command.context_settings.get("ignore_unknown_options"):  # it reads its words itself, by a dataclass
        said = CliRunner().invoke(app, [str(command.name), "--help"], env={"COLUMNS": "200"}).stdout
        assert not [word for word in words if word.startswith("--") and f" {word} " not in said], (command.name, words)
        return
    with command.context_class(command, info_name=command.name) as context:
        given, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, (command.name, rest)
    lacking = [param.name for param in command.params if param.required and given.get(param.name) is None]
    assert not lacking, (command.name, words, lacking)


@pytest.mark.parametrize("name", [*PAGES, "SECURITY.md", "CONTRIBUTING.md"])
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", page)):
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path) if path else ROOT / name
        assert target.is_file(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """`make docs` does the same, and installs what this needs."""
    pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")
    line = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert "FlipProbDPOTrainer" in (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What headings are called, as GitHub and MkDocs make it from their text."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
