"""What comes from the command line is a path like any other, and what is shown on a terminal does not steer it."""

import logging
import sys
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub import cli
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.cli.printing import print_label_sources
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import at_home, given_words, shown

CLEAR = "\x1b[2J"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: no HOME, and the user is in no list of users."""
    import pwd

    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("~", "{home}"),
        ("~/ds", "{home}/ds"),
        ("--out=~/ds", "--out={home}/ds"),
        ("--out", "--out"),
        ("a~/b", "a~/b"),
        ("--question=why=~/x", "--question=why=~/x"),
        ("~nobody-has-this-name/x", "~nobody-has-this-name/x"),
        ("https://example.org/~ann/r.zip", "https://example.org/~ann/r.zip"),
    ],
)
def test_a_tilde_that_the_shell_left_is_the_home_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, word: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["ifllm", word])
    assert given_words() == [expected.format(home=home)]


def test_commands_write_and_read_at_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "simulate", "~/s", "--workers=4", "--questions=30") == 0
    assert run(monkeypatch, "label", "~/nothing") == 2
    assert run(monkeypatch, "collect", "export", "--out=~/x", "--folder=~/none") == 2
    errors = capsys.readouterr().err
    assert f"{home}/nothing" in errors
    assert f"{home}/none: no collector has been run here" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert [path.name for path in home.iterdir()] == ["s"]


@pytest.mark.usefixtures("homeless")
def test_a_tilde_without_a_home_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "simulate", "~/s") == 2
    assert capsys.readouterr().err == ("error: ~/s: there is no home folder (HOME is not set). Write the whole path.\n")
    assert at_home(["a", 3, None]) == ["a", 3, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, é 🔧\n\tand lines", "plain, é 🔧\n\tand lines"),
        (CLEAR, r"\x1b[2J"),
        ("a\rb\x07\x9b31m\x7f", r"a\rb\x07\x9b31m\x7f"),
        ("gpt\u202e.exe\u2066", r"gpt\u202e.exe\u2066"),
        ("name\udcff", r"name\udcff"),
    ],
)
def test_what_would_steer_a_terminal_is_written_as_an_escape(text: str, expected: str) -> None:
    assert shown(text) == expected
    shown(text).encode()


def test_names_from_elsewhere_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"ds{CLEAR}"
    folder.mkdir()
    assert run(monkeypatch, "label", folder) == 2
    assert run(monkeypatch, "simulate", folder, "--workers", 1) == 2
    assert run(monkeypatch, "simulate", tmp_path / f"s{CLEAR}", "--workers=4", "--questions=30") == 0

    def script() -> None:
        logging.getLogger("made").info("a column %s", CLEAR)
        raise IfllmError(f"config.json: the model {CLEAR} is not known")

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert exit_status(script) == 2
    row = {"label_source": f"[/b]{CLEAR}", "split": "test", "pairs": 1, "flip_prob": 0.1, "rated": 0, "agreeing": 0}
    row |= {"low": float("nan"), "high": float("nan")}
    print_label_sources(pl.DataFrame([row]))
    output = capsys.readouterr()
    for text in output:
        assert "\x1b" not in text
        assert r"\x1b[2J" in text
    assert r"[/b]\x1b[2J" in output.out
    assert r"a column \x1b[2J" in output.err
    assert r"the model \x1b[2J is not known" in output.err
