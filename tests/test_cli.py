"""The command line as a user meets it: what it prints, what it refuses, and with which exit code."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.main import get_command

from ifllm_hub import cli
from ifllm_hub.dataset.label_worth import label_worth, worth_table
from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.preferences.labels import agreements
from ifllm_hub.sources.ifllm import archive
from tests.conftest import few_trees

IFLLM = str(Path(sys.executable).with_name("ifllm"))


def ifllm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ifllm *words`, in this process."""
    monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder in which nobody, not even root, can make anything."""
    if os.geteuid() == 0:
        yield Path("/sys")  # permission bits do not bind root; the kernel's own file system does
        return
    folder = Path(shutil.os.path.join(os.environ["IFLLM_CACHE"], "read-only"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def no_release(folder: Path, simulated: Path) -> str:
    (folder / "holiday.jpg").write_bytes(b"\xff\xd8")
    return "not an IFLLM release"


def missing_table(folder: Path, simulated: Path) -> str:
    shutil.copytree(simulated / "dataset", folder, dirs_exist_ok=True)
    (folder / "record_info_table.csv").unlink()
    return "record_info_table.csv: this table of the release is missing"


def missing_behavior_file(folder: Path, simulated: Path) -> str:
    shutil.copytree(simulated / "dataset", folder, dirs_exist_ok=True)
    next(folder.glob("user_behavior/*/*/rel_mouse*.csv")).unlink()
    return "the behavior file rel_mouse"


def bad_byte_in_a_table(folder: Path, simulated: Path) -> str:
    shutil.copytree(simulated / "dataset", folder, dirs_exist_ok=True)
    table = folder / "query_logs_table.csv"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] = 0xFF
    table.write_bytes(content)
    return "query_logs_table.csv"


def bad_byte_in_a_behavior_file(folder: Path, simulated: Path) -> str:
    shutil.copytree(simulated / "dataset", folder, dirs_exist_ok=True)
    file = sorted(folder.glob("user_behavior/*/*/rel_mouse*.csv"))[-1]
    lines = file.read_bytes().split(b"\n")
    lines[4] = lines[4][:-3] + b"\xff" + lines[4][-3:]
    file.write_bytes(b"\n".join(lines))
    return f"{file}, line 5: byte 0xff"


@pytest.mark.parametrize(
    "spoil", [no_release, missing_table, missing_behavior_file, bad_byte_in_a_table, bad_byte_in_a_behavior_file]
)
@pytest.mark.parametrize("command", ["build", "run"])
def test_a_bad_release_is_one_clear_error_and_nothing_half_written(
    spoil, command, simulated, tmp_path, capsys, monkeypatch
) -> None:
    (tmp_path / "release").mkdir()
    expected = spoil(tmp_path / "release", simulated)
    out = tmp_path / "out"
    words = {
        "build": ["build", tmp_path / "release", out],
        "run": ["run", "--release", tmp_path / "release", "--out", out],
    }
    code, _, error = ifllm(capsys, monkeypatch, *words[command])
    assert code == 2
    message = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert expected in message[0]
    assert "Traceback" not in error
    assert ("stage 'build'" in message[0]) == (command == "run")
    left = {path.name for path in tmp_path.rglob("*") if (tmp_path / "release") not in path.parents}
    assert left <= {"release", "out", "stages.json"}
    assert "out" not in left or command == "run"


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_a_truncated_archive(share, simulated, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("IFLLM_CACHE", str(tmp_path / "cache"))
    whole = tmp_path / "whole.tar.gz"
    with tarfile.open(whole, "w:gz", compresslevel=1) as archive:
        archive.add(simulated / "dataset", "dataset")
    content = whole.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(content[: int(len(content) * share)])
    code, _, error = ifllm(capsys, monkeypatch, "build", cut, tmp_path / "out")
    assert code == 2
    assert "cut.tar.gz: cannot be unpacked" in error
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache" / "releases").iterdir()) == []


def test_an_output_folder_that_cannot_be_written(read_only, simulated, dataset, capsys, monkeypatch) -> None:
    for words in (
        ["simulate", read_only / "out"],
        ["build", simulated, read_only / "out"],
        ["reward", dataset, "--out", read_only / "out", "--seeds", 1],
        ["run", "--out", read_only / "out"],
    ):
        code, _, error = ifllm(capsys, monkeypatch, *words)
        assert code == 2, words
        assert f"error: {read_only / 'out'}: cannot be written" in error
    assert not (read_only / "out").exists()


def test_an_output_folder_that_holds_something_else_is_left_alone(simulated, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for words in (["simulate", tmp_path], ["build", simulated, tmp_path], ["run", "--out", tmp_path]):
        code, _, error = ifllm(capsys, monkeypatch, *words)
        assert code == 2, words
        assert "error: " in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_recipe_fails_before_any_work(tmp_path, capsys, monkeypatch) -> None:
    code, _, error = ifllm(capsys, monkeypatch, "run", "--out", tmp_path / "out", "--recipe", "gpt-5")
    assert code == 2
    assert "There is no recipe 'gpt-5'" in error
    assert "smollm2-135m-cpu" in error
    assert not (tmp_path / "out" / "simulated").exists()


@pytest.mark.parametrize(
    "words",
    [["reward", "no/such/dataset", "--out", "x"], ["label", "no-such-folder"], ["report", "no-such-run"]],
)
def test_a_missing_input_is_named(words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = ifllm(capsys, monkeypatch, *words)
    assert code == 2
    assert words[1] in error
    assert list(tmp_path.iterdir()) == []


def test_simulate_and_build_say_where_things_are_and_that_lines_balance(tmp_path, capsys, monkeypatch) -> None:
    code, out, _ = ifllm(capsys, monkeypatch, "simulate", tmp_path / "s", "--workers", 4, "--questions", 40)
    assert (code, (tmp_path / "s" / "ground_truth.parquet").is_file()) == (0, True)
    assert str(tmp_path / "s" / "dataset") in out
    code, out, _ = ifllm(capsys, monkeypatch, "build", tmp_path / "s", tmp_path / "d")
    assert code == 0
    assert "40 questions" in out
    assert "+ 0 unaccounted" in out
    assert (tmp_path / "d" / "README.md").is_file()


def test_label_reports_pairs_and_agreement_and_exports_them(dataset, tmp_path, capsys, monkeypatch) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "d"))
    with few_trees():
        code, out, _ = ifllm(capsys, monkeypatch, "label", folder)
    assert code == 0
    rows = pl.concat(load_config(folder, f"preferences_{source}") for source in label_sources(folder))
    printed = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    for count in agreements(rows).iter_rows(named=True):
        cells = [count["label_source"], count["split"], str(count["pairs"]), f"{count['flip_prob']:.3f}"]
        ends = "" if isnan(count["low"]) else f"{max(count['low'], 0):.3f}-{min(count['high'], 1):.3f}"
        compared = [f"{count['agreeing'] / count['rated']:.3f} of {count['rated']}", ends]
        cells += ["", ""] if count["label_source"] == "explicit" else compared
        assert cells in printed
    assert all(list(row) in printed for row in worth_table(label_worth(rows)))
    worth = rows.filter(label_source="forest").select(((1 - 2 * pl.col("flip_prob")) ** 2).sum()).item()
    assert [row[2].startswith(f"{worth:.1f} [") for row in printed if len(row) == 5 and row[0] == "forest"] == [True]
    file = tmp_path / "longer.jsonl"
    code, out, _ = ifllm(capsys, monkeypatch, "export-labels", folder, file, "--label-source", "longer")
    assert (code, out) == (0, f"{len(file.read_text().splitlines())} pairs: {file}\n")
    code, _, err = ifllm(capsys, monkeypatch, "label", folder, "--labels-file", file)
    assert code == 2
    assert err.startswith("error: A file of labels and a name for them belong together (--labels-file FILE --label-so")


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    done = subprocess.run([IFLLM, "--help"], capture_output=True, text=True, check=True)
    commands = ("simulate", "build", "scan", "publish", "reward", "label", "report", "run", "generate", "judge", "rate")
    assert all(command in done.stdout for command in commands)
    code = (
        "import sys; sys.argv = ['ifllm', '--help']; from ifllm_hub.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sorted(sys.modules), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    ours = {name for name in loaded if name.startswith("ifllm_hub.")}
    assert {name for name in ours if not name.startswith("ifllm_hub.cli")} == {
        "ifllm_hub.collect",
        "ifllm_hub.errors",
        "ifllm_hub.terminal",
    }
    known = sys.stdlib_module_names | {"ifllm_hub", "typer", "rich", "click", "shellingham"}
    rest = {name.partition(".")[0] for name in loaded} - known
    heavy = {"torch", "polars", "sklearn", "datasets", "matplotlib", "transformers", "numpy", "scipy", "pyarrow"}
    heavy |= {"huggingface_hub", "yaml", "jinja2", "sqlalchemy", "pydantic", "fastapi", "ray", "fsspec"}
    assert rest.isdisjoint(heavy), rest


def test_label_needs_neither_figures_nor_what_trains(labeled_dataset: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(labeled_dataset, tmp_path / "dataset")
    code = (
        "import sys; from functools import partial; from ifllm_hub.cli import main\n"
        "from ifllm_hub.reward.protocol import candidates as models\n"
        "models.ImplicitFeedbackRewardModel = partial(models.ImplicitFeedbackRewardModel, n_estimators=3)\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, *sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "label", folder], capture_output=True, text=True, check=True)
    status, *loaded = done.stderr.split()
    assert status == "0"
    rooms = {"cli", "collect", "dataset", "features", "pages", "preferences", "reward", "sources"}
    bottom = {"documents", "errors", "files", "hub", "statistics", "terminal", "terms"}
    assert {name.split(".")[1] for name in loaded if name.startswith("ifllm_hub.")} == rooms | bottom
    assert {name for name in loaded if name.startswith("ifllm_hub.pages.")} == {"ifllm_hub.pages.web_page"}
    heavy = {"matplotlib", "torch", "transformers", "trl", "gradio", "sqlalchemy", "fastapi", "ray"}
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(heavy)


def test_scoring_in_this_process_needs_neither_ray_nor_what_trains(dataset: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from ifllm_hub.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, *sorted(sys.modules), file=sys.stderr)"
    )
    for words in (["score", dataset], ["partition", dataset, "--shards", "2"]):
        command = [sys.executable, "-c", code, *words, "--out", tmp_path / words[0]]
        status, *loaded = subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()
        assert status == "0"
        heavy = {"ray", "s3fs", "boto3", "torch", "transformers", "sklearn", "gradio", "sqlalchemy"}
        assert {name.partition(".")[0] for name in loaded}.isdisjoint(heavy)


def commands(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in (group or get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_each_command_explains_itself_in_groups_of_few_options(words, capsys, monkeypatch) -> None:
    """One spelling of flags, `--label-source` for whose labels, and no list of options too long to be read."""
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = ifllm(capsys, monkeypatch, *words, "--help")
    assert code == 0
    assert re.search(rf"Usage: .* {' '.join(words)} ", out)
    panels = re.split(r"╭─ (.+?) ─+╮", out)[1:]
    sizes = {
        title: len(set(re.findall(r"^│ (?:\*| )? *--([a-z-]+)", content, re.MULTILINE)) - {"help"})
        for title, content in zip(panels[::2], panels[1::2], strict=True)
    }
    assert max(sizes.values()) <= 8, sizes
    flags = set(re.findall(r"(?<=[ │])--[a-z][a-z_-]*", out))
    assert not [flag for flag in flags if "_" in flag]
    assert flags.isdisjoint({"--labels", "--source", "--name"})


def test_build_takes_the_public_release_unless_another_is_named(simulated, tmp_path, capsys, monkeypatch) -> None:
    opened = []

    def open_release(source: str, advance: Any) -> Any:
        opened.append(source)
        return archive.inventory(simulated)

    monkeypatch.setattr(archive, "open_release", open_release)
    monkeypatch.setattr("ifllm_hub.dataset.build.build_dataset", lambda release, out, **_: build_nothing(out))
    for words in ([tmp_path / "one"], ["their.zip", tmp_path / "two"]):
        assert ifllm(capsys, monkeypatch, "build", *words)[0] == 0
    assert opened == [archive.RELEASE_URL, "their.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    code, _, error = ifllm(capsys, monkeypatch, "build", "a", "b", "c")
    assert (code, error) == (2, "error: build takes [RELEASE] OUT and was given 3 paths. Quote those with spaces.\n")
    assert ifllm(capsys, monkeypatch, "build")[0] == 2


def build_nothing(out: Path) -> dict[str, Any]:
    out.mkdir()
    rel = {"lines": 0, "ticks": 0, "quarantined": 0, "unaccounted": 0}
    return {"questions": {"all": {"questions": 0}}, "lines": {"rel": rel}}


def test_the_installed_command_exits_with_2(tmp_path) -> None:
    done = subprocess.run([IFLLM, "build", "nowhere.tar.xz", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere.tar.xz: no such file or folder.")
