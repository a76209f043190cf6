"""Labels from elsewhere: read as they are meant, kept, and refused where they belong to other data."""

import codecs
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.dataset.load import label_sources, load_config
from ifllm_hub.dataset.writers import replace_preferences
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.label_files import read_labels
from ifllm_hub.preferences.labels import SOURCES, external_rows, write_preferences
from ifllm_hub.reward.protocol.pairs import Pairs, load_pairs, with_behavior
from tests.conftest import few_trees


def write(file: Path, labels: pl.DataFrame) -> Path:
    {".parquet": labels.write_parquet, ".csv": labels.write_csv, ".jsonl": labels.write_ndjson}[file.suffix](file)
    return file


def labels_of(pairs: Pairs, *probabilities: Any, **columns: Any) -> pl.DataFrame:
    """Labels of the first pairs with behavior, one a probability."""
    ids = with_behavior(pairs).rows["question_id"][: len(probabilities)]
    return pl.DataFrame({"question_id": ids, "probability": probabilities, **columns}, strict=False)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_of_labels_by_hand(study: Path, all_pairs: Pairs, tmp_path: Path, suffix: str) -> None:
    labels = labels_of(all_pairs, 1, 0.75, 0.5, 0.25, 0, 0.51)
    first = {row["question_id"]: row for row in all_pairs.rows.iter_rows(named=True)}
    rows = external_rows(all_pairs, read_labels(write(tmp_path / f"l{suffix}", labels), study, all_pairs), "text")
    ids = labels["question_id"].to_list()
    expected = [(ids[0], "left", 0), (ids[1], "left", 0.25), (ids[3], "right", 0.25), (ids[4], "right", 0)]
    expected.append((ids[5], "left", 0.45))
    assert [(row["question_id"], row["flip_prob"]) for row in rows.iter_rows(named=True)] == [
        (question, pytest.approx(flip)) for question, _, flip in expected
    ]
    for row, (question, side, _) in zip(rows.iter_rows(named=True), expected, strict=True):
        other = {"left": "right", "right": "left"}[side]
        assert row["chosen"] == [{"role": "assistant", "content": first[question][f"response_{side}"]}]
        assert row["rejected"] == [{"role": "assistant", "content": first[question][f"response_{other}"]}]
        assert row["rating_chosen"] == first[question][f"rating_{side}"]
        assert (row["label_source"], row["split"]) == ("text", first[question]["split"])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_ids_that_a_float_cannot_hold_stay_apart(study: Path, all_pairs: Pairs, tmp_path: Path, suffix: str) -> None:
    """As those of collected data, which have 63 bits."""
    large = Pairs(all_pairs.rows.with_columns(question_id=2**63 - 1 - pl.int_range(pl.len(), dtype=pl.Int64)))
    labels = labels_of(large, 1, 0.75, 0.5, 0.25)
    assert labels["question_id"].cast(pl.Float64).n_unique() == 1
    assert read_labels(write(tmp_path / f"l{suffix}", labels), study, large).equals(
        labels.with_columns(pl.col("probability").cast(pl.Float64))
    )


def test_pairs_that_no_other_source_labels_are_left_out(all_pairs: Pairs) -> None:
    labels = labels_of(all_pairs, 0.9, 0.9)
    unread = pl.col("question_id") == labels["question_id"][0]
    marked = all_pairs.rows.with_columns(has_mouse=pl.col("has_mouse") & ~unread, has_gaze=pl.col("has_gaze") & ~unread)
    assert external_rows(Pairs(marked), labels, "text")["question_id"].to_list() == [labels["question_id"][1]]


def test_labels_stay_until_replaced(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    pairs = load_pairs(folder)
    digest = json.loads((folder / "manifest.json").read_text())["release_sha256"]
    rows = with_behavior(pairs).rows
    ids = sorted(rows.filter(pl.col("split") == split)["question_id"][0] for split in ("train", "test"))
    both = pl.DataFrame({"question_id": ids, "probability": [0.9, 0.2], "release_sha256": digest})
    earlier = [external_rows(pairs, both, "text"), external_rows(pairs, both, "judge")]
    replace_preferences(folder, pl.concat(earlier))
    with few_trees():
        rows = write_preferences(folder, labels=write(tmp_path / "text.csv", both[1:]), name="text")
    stored = pl.concat(load_config(folder, f"preferences_{source}") for source in label_sources(folder))
    stored = stored.sort("label_source", "question_id")
    assert stored.equals(rows.select(stored.columns).sort("label_source", "question_id"))
    assert set(stored["label_source"]) == {*SOURCES, "text", "judge"}
    external = stored.filter(pl.col("label_source").is_in(["text", "judge"]))
    first, second = both["question_id"]
    assert sorted(external.select("label_source", "question_id", "flip_prob").rows()) == [
        ("judge", first, pytest.approx(0.1)),
        ("judge", second, pytest.approx(0.2)),
        ("text", second, pytest.approx(0.2)),
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("name", ["labels", "run [v1] *?"])
def test_every_kind_of_file_is_read_wherever_it_is(
    labeled_study: Path, all_pairs: Pairs, tmp_path: Path, suffix: str, name: str
) -> None:
    """With a byte order mark, as some editors and Windows write it."""
    labels = labels_of(all_pairs, 0.9, 0.25)
    path = write(tmp_path / f"{name}{suffix}", labels)
    if suffix != ".parquet":
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_labels(path, labeled_study, all_pairs).equals(labels)


REFUSED = [
    pytest.param("l.csv", {"question_id": 10**9}, "1 of 3 labels have question ids that are not pairwise", id="id"),
    pytest.param("l.csv", {"probability": 1.5}, r"outside \[0, 1\].*probability 1\.5", id="too high"),
    pytest.param("l.parquet", {"probability": float("nan")}, "1 of 3 labels .* missing or outside", id="nan"),
    pytest.param("l.jsonl", {"probability": None}, "1 of 3 labels .* missing or outside", id="null"),
    pytest.param("l.csv", {"probability": "left"}, "question_id is Int64 and probability String", id="text"),
    pytest.param("l.csv", {"release_sha256": "0" * 64}, r"release_sha256 0{64}, but", id="digest"),
    pytest.param("l.csv", {"release_sha256": None}, "release_sha256 None, but", id="no digest"),
    pytest.param("l.txt", {}, r"labels are read from \.parquet, \.csv, \.jsonl", id="suffix"),
]


@pytest.mark.parametrize(("file", "last", "message"), REFUSED)
def test_a_wrong_label_is_refused_and_nothing_written(
    labeled_study: Path, tmp_path: Path, file: str, last: dict[str, Any], message: str
) -> None:
    ids = with_behavior(load_pairs(labeled_study)).rows["question_id"][:3].to_list()
    digest = json.loads((labeled_study / "manifest.json").read_text())["release_sha256"]
    good = [{"question_id": question, "probability": 0.8, "release_sha256": digest} for question in ids]
    labels = pl.DataFrame([*good[:2], good[2] | last], strict=False, infer_schema_length=None)
    if "probability" in last and last["probability"] == "left":
        labels = labels.with_columns(probability=pl.lit("left"))
    path = tmp_path / file
    write(path, labels) if path.suffix != ".txt" else path.write_text("no")
    check_refused(labeled_study, path, "text", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("question_id,p\n1,0.5\n", r"lacks the column\(s\) probability", id="column"),
        pytest.param("question_id,probability\n", "has no labels", id="empty"),
        pytest.param("", "cannot be read", id="nothing"),
        pytest.param("question_id,probability\n1,0.5\n1,0.6\n", "question_id 1 is labeled more than once", id="twice"),
        pytest.param("question_id,probability\n1.5,0.5\n", "question_id is Float64", id="fraction"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_written(
    labeled_study: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "l.csv").write_text(content)
    check_refused(labeled_study, tmp_path / "l.csv", "text", message)
    check_refused(labeled_study, tmp_path / "nowhere.parquet", "text", "cannot be read")


@pytest.mark.parametrize("name", ["forest", "explicit", "Text", "a b", "", "../x", None])
def test_a_wrong_name_is_refused_and_nothing_written(labeled_study: Path, tmp_path: Path, name: str | None) -> None:
    file = write(tmp_path / "l.csv", labels_of(load_pairs(labeled_study), 0.8))
    check_refused(labeled_study, file, name, "belong together" if name is None else "cannot be named")


def test_labels_that_decide_nothing_are_refused(labeled_study: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.csv", labels_of(load_pairs(labeled_study), 0.5))
    check_refused(labeled_study, file, "text", "decides none of the pairs")


def check_refused(dataset: Path, file: Path, name: str | None, message: str) -> None:
    before = {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}
    with pytest.raises(IfllmError, match=message):
        write_preferences(dataset, labels=file, name=name)
    assert {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()} == before
