"""Building: whole or not at all, the same bytes however it is done, and a release that is written in another way."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.dataset import build as builder
from ifllm_hub.dataset.build import _with_messages as with_messages
from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.dataset.writers import replace_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import TABLES, Release, inventory, open_release
from tests.dataset.folders import content, rows


@pytest.mark.parametrize("chunk", [1, *(pytest.param(many, marks=pytest.mark.slow) for many in (3, 100))])
def test_the_chunk_size_leaves_no_trace(release: Release, dataset: Path, tmp_path: Path, chunk: int) -> None:
    shares: list[float] = []
    build_dataset(release, tmp_path / "out", chunk, shares.append)
    assert content(tmp_path / "out") == content(dataset)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_build_does_not_depend_on_where_the_release_lies(simulated: Path, dataset: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(simulated / "dataset", tmp_path / "elsewhere")
    build_dataset(inventory(moved), tmp_path / "out")
    assert content(tmp_path / "out") == content(dataset)


def test_a_build_replaces_an_earlier_one_and_a_failure_does_not(
    release: Release, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(dataset, tmp_path / "out")
    (out / "data/pairwise/stale.parquet").write_bytes(b"stale")
    with_stale = content(out)

    def fail(folder: Path) -> None:
        raise IfllmError("the card fails, after everything else was written")

    with monkeypatch.context() as patched:
        patched.setattr(builder, "write_card", fail)
        with pytest.raises(IfllmError, match="the card fails"):
            build_dataset(release, out)
    assert content(out) == with_stale
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    build_dataset(release, out)
    assert content(out) == content(dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_release_that_breaks_midway_leaves_nothing(simulated: Path, tmp_path: Path) -> None:
    shutil.copytree(simulated / "dataset", tmp_path / "broken")
    release = inventory(tmp_path / "broken")
    last = release.tasks[-1].path / release.tasks[-1].files[-1]
    last.write_bytes(last.read_bytes() + b"\xff")
    with pytest.raises(IfllmError, match=rf"{last}, line \d+: byte 0xff"):
        build_dataset(release, tmp_path / "out", chunk=2)
    last.unlink()
    with pytest.raises(IfllmError, match=rf"{last}: cannot be read"):
        build_dataset(release, tmp_path / "out", chunk=2)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


# --- releases that are written in another way


@pytest.fixture
def other(release: Release, tmp_path: Path) -> Path:
    """A copy of the release's tables and of the conversations of three workers."""
    root = tmp_path / "other"
    for worker in sorted({task.worker_id for task in release.tasks})[:3]:
        shutil.copytree(release.root / "user_behavior" / worker, root / "user_behavior" / worker)
    for table in TABLES:
        shutil.copy(release.root / table, root / table)
    return root


def edit_epochs(root: Path, change: Callable[[str], str]) -> None:
    for path in root.glob("user_behavior/*/*/*.csv"):
        lines = (line.rpartition(",") for line in path.read_text().splitlines())
        path.write_text("".join(f"{head}{comma}{change(epoch)}\n" for head, comma, epoch in lines))


def nobody_consented(root: Path) -> None:
    for worker in (root / "user_behavior").iterdir():
        worker.rename(worker.with_name(f"{worker.name}-else"))


def another_text(root: Path) -> None:
    log = pl.read_csv(root / TABLES[0], infer_schema=False)
    log.with_columns(llm_response_1=pl.lit("?"), llm_response_2=pl.col("llm_name_2")).write_csv(root / TABLES[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda root: edit_epochs(root, lambda epoch: epoch[:-3]),
            r"user_behavior: [\d,]+ of [\d,]+ lines cannot be read \(most often: epoch is not in "
            r"milliseconds from 2020 to 2100; the first of these in \S+, line 1\)",
            id="seconds",
        ),
        pytest.param(
            lambda root: edit_epochs(root, lambda epoch: str(int(epoch) - 10**11)),
            r"none of [\d,]+ ticks falls after an answer \([\d,]+ before the first answer, .* both in UTC",
            id="another-clock",
        ),
        pytest.param(
            lambda root: edit_epochs(root, lambda epoch: str(int(epoch) + 10**11)),
            r"none of [\d,]+ ticks falls after an answer \(.*, [\d,]+ weeks after the last answer\)",
            id="years-later",
        ),
        pytest.param(nobody_consented, "nothing here belongs to a worker who consented", id="other-people"),
        pytest.param(another_text, r"none of [\d,]+ recorded windows occurs in an answer", id="another-text"),
    ],
)
def test_a_release_of_which_nothing_can_be_used_is_refused(
    other: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(other)
    with pytest.raises(IfllmError, match=message):
        build_dataset(inventory(other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_fits_no_column_is_counted_and_the_rest_is_built(other: Path, tmp_path: Path) -> None:
    """A clock that was set two months ahead for a last tick; one coordinate from outer space."""
    first, second, *_ = (task.path for task in inventory(other).tasks if not task.pairwise)
    for path in first.glob("*.csv"):
        lines = path.read_text().splitlines()
        head, _, epoch = lines[-1].rpartition(",")
        path.write_text("".join(f"{line}\n" for line in (*lines[:-1], f"{head},{int(epoch) + 60 * 86_400_000}")))
    lines = (second / "abs_mouse.csv").read_text().splitlines()
    lines[-2] = "3e9," + lines[-2].partition(",")[2]
    (second / "abs_mouse.csv").write_text("".join(f"{line}\n" for line in lines))
    manifest = build_dataset(inventory(other), tmp_path / "out")
    assert manifest["ticks"]["weeks_after_the_last_answer"] == 1
    assert manifest["quarantine_reasons"]["coordinate beyond any screen"] == 1
    ticks = dict(manifest["ticks"])
    assert ticks.pop("ticks") == sum(ticks.values()) - ticks["lines_missing"]
    assert "1\nweeks after the last answer" in (tmp_path / "out" / "datasheet.md").read_text()


def test_a_place_that_is_taken_is_not_touched(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.txt").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(IfllmError, match=f"{name}: exists and was not made by this command"):
            build_dataset(release, tmp_path / name)
    assert content(tmp_path) == {"file": b"mine", "folder/thesis.txt": b"mine"}


def test_one_config_is_replaced_and_the_card_follows(dataset: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dataset, tmp_path / "out")
    frame = rows(out, "pointwise")
    for n in (5, 7):
        replace_configs(out, {"pointwise": frame.head(n)})
        assert rows(out, "pointwise").equals(frame.head(n))
    changed = {name for name, data in content(out).items() if data != content(dataset).get(name)}
    written_anew = {"README.md", "datasheet.md", "contents.json", "croissant.json", "figures/questions_per_worker.png"}
    assert changed <= written_anew | {f"data/pointwise/{split}-00000-of-00001.parquet" for split in SPLITS}
    assert "README.md" in changed
    assert content(out).keys() == content(dataset).keys()


def test_a_config_is_not_written_into_another_folder(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"manifest\.json: missing"):
        replace_configs(tmp_path, {"features": rows(dataset, "features")})
    assert list(tmp_path.iterdir()) == []


def test_the_reading_of_a_dropped_question_is_not_of_the_one_before(
    simulated: Path, built: Path, tmp_path: Path
) -> None:
    ticks = load_config(built, "trajectories")
    turns = load_config(built, "pairwise").filter(pl.col("turn") > 1, pl.col("asked_at").is_not_null())
    dropped = turns.join(ticks, on="question_id", how="semi").sort("question_id").row(0, named=True)
    other = shutil.copytree(simulated, tmp_path / "other")
    table = other / "dataset" / "query_logs_table.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if int(row["query_ID"]) == dropped["question_id"]:
            row["llm_response_2"] = ""
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    manifest = build_dataset(open_release(other), tmp_path / "out")
    theirs = load_config(tmp_path / "out", "trajectories").sort("question_id")
    ours = ticks.filter(pl.col("question_id") != dropped["question_id"]).sort("question_id")
    of_ticks = [name for name, type_ in ours.schema.items() if isinstance(type_, pl.List)]
    assert theirs.select("question_id", *of_ticks).equals(ours.select("question_id", *of_ticks))
    (gone,) = ticks.filter(question_id=dropped["question_id"])["t"].list.len()
    assert manifest["ticks"]["of_an_unanswered_question"] == gone > 0
    assert (
        manifest["tables"]["unanswered_dropped"]
        == 1 + json.loads((built / "manifest.json").read_text())["tables"]["unanswered_dropped"]
    )


TURNS = st.lists(st.tuples(st.sampled_from("abc"), st.text(), st.text(), st.text()), max_size=12)


@given(TURNS, st.sampled_from(["pairwise", "pointwise"]))
def test_each_turn_has_the_history_of_its_side_though_conversations_are_interleaved(
    turns: list[tuple[str, str, str, str]], mode: str
) -> None:
    said = ["conversation_id", "query", "response_left", "response_right"]
    rows = pl.DataFrame(turns, schema=dict.fromkeys(said, pl.String), orient="row").with_columns(
        asked_at=pl.lit(0), model_left=pl.lit("m"), rating_left=pl.lit(1)
    )
    got = with_messages(rows, mode)
    columns = ("messages_left", "messages_right") if mode == "pairwise" else ("messages",)
    for side, column in enumerate(columns):
        expected = []
        for number, (conversation, query, *_) in enumerate(turns):
            earlier = [turn for turn in turns[:number] if turn[0] == conversation]
            texts = [text for turn in earlier for text in (turn[1], turn[2 + side])]
            roles = ["user", "assistant"] * len(earlier)
            chat = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
            expected.append([*chat, {"role": "user", "content": query}])
        assert got[column].to_list() == expected
        assert got[column].dtype == pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
