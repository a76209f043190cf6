"""Out of the store: the dataset's own configs, rows for TRL, and people taken out again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.export.upkeep import delete_person, erase_exports
from ifllm_hub.collect.settings import PSEUDONYM_KEY
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.preferences.load import load_preferences
from ifllm_hub.reward.functions import BehaviorReward
from tests.collect.client import reading
from tests.collect.conftest import Site


def collect(site: Site, people: int, questions: int = 1, first: int = 0) -> None:
    """People who read the left answer longer and say that it is better, and one answer each that they rate."""
    for person in range(first, people):
        for number in range(questions):
            tokens = site.pair(f"p{person}", f"q{number}", left=f"left {person} {number} " * 60)
            ticks, left = reading(8, 0) + reading(4, 1, start=20_000), [[9_000, "leave", 0, 0]]
            sent = site.send(tokens, person, number, ticks=ticks, events=left)
            assert sent.status_code == 202
            assert site.post("ratings", {"token": tokens[0], "preference": "left", "rating": 4}).status_code == 202
        for rating in (2, 5):
            single = site.register(f"p{person}", f"single{rating}")["token"]
            assert site.send([single], 1_000 + person, rating, ticks=reading(2, 0)).status_code == 202
            assert site.post("ratings", {"token": single, "rating": rating}).status_code == 202


def test_from_the_browser_to_a_preference_row(site: Site, tmp_path: Path) -> None:
    collect(site, people=1)
    out = tmp_path / "out"
    manifest = export_dataset(site.store, out, site.pseudonyms)
    assert (manifest["people"], manifest["questions"]) == (1, {"pairwise": 1, "pointwise": 2})
    assert manifest["ticks"] == {"received": 200, "kept": 200}
    # In an interpreter that knows nothing of the collector.
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, sys\nfrom datasets import load_dataset\n"
            "print(json.dumps({name: [row for split in load_dataset(sys.argv[1], name).values() for row in split]\n"
            "    for name in ('pairwise', 'pointwise', 'trajectories', 'features', 'preferences_explicit')},\n"
            "    default=str))",
            str(out),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(loaded.stdout)
    pair, features = rows["pairwise"][0], rows["features"][0]
    assert (pair["preference"], pair["rating_left"], pair["has_mouse"], pair["has_gaze"]) == ("left", 4, True, False)
    assert pair["messages_left"] == [{"role": "user", "content": "What about q0?"}]
    assert features["question_id"] == pair["question_id"] == rows["trajectories"][0]["question_id"]
    assert (features["mouse_dwell_left"], features["mouse_dwell_right"]) == (8_000, 4_000)
    reward = BehaviorReward(scale="probability")
    columns = {name: [value] for name, value in {**pair, **features}.items()}
    left, right = (
        reward(prompts=[""], completions=[pair[f"response_{side}"]], **columns)[0] for side in ("left", "right")
    )
    assert left is not None
    assert right == pytest.approx(1 - left)
    for source in ("explicit", "shipped_forest"):
        row = json.loads((out / "trl" / f"preferences_{source}.jsonl").read_text())
        assert row["prompt"] == [{"role": "user", "content": "What about q0?"}]
        assert row["chosen"] == [{"role": "assistant", "content": pair["response_left"]}]
        assert row["rejected"] == [{"role": "assistant", "content": pair["response_right"]}]
        assert row["flip_prob"] == (0 if source == "explicit" else pytest.approx(min(1 - left, 0.45)))
    worth = (1 - 2 * min(1 - left, 0.45)) ** 2
    assert f"| `shipped_forest` | 1 | {worth:.1f} | 1.0 | {worth:.1f} |" in (out / "README.md").read_text()


@pytest.fixture
def known_site(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with the same pseudonyms in every run: of p0 to p11, p2 and p3 are in the test split."""
    monkeypatch.setenv(PSEUDONYM_KEY, "the same in every run 0")
    return make_site()


def test_nobody_changes_split_where_others_join_and_leave(known_site: Site, tmp_path: Path) -> None:
    site, split_of = known_site, {}
    for first, people in ((0, 1), (1, 3), (3, 12)):
        collect(site, people, first=first)
        export_dataset(site.store, tmp_path / "out", site.pseudonyms)
        now = dict(load_config(tmp_path / "out", "features").select("worker_id", "split").iter_rows())
        assert len(now) == people
        assert split_of.items() <= now.items()
        split_of = now
    site.forget(site.register("p5", "q0")["person_token"])
    export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    left = dict(load_config(tmp_path / "out", "features").select("worker_id", "split").iter_rows())
    assert len(left) == 11
    assert left.items() <= split_of.items()
    assert set(left.values()) == {"train", "test"}


def test_a_split_without_people_is_said_where_training_needs_it(known_site: Site, tmp_path: Path) -> None:
    collect(known_site, people=1)
    export_dataset(known_site.store, tmp_path / "out", known_site.pseudonyms)
    with pytest.raises(IfllmError, match=r"The test split of .* has no pair .* training needs both splits"):
        load_preferences(tmp_path / "out", "explicit")
    with pytest.raises(IfllmError, match=r"no pair with behavior in the test split, which is held out by worker"):
        write_preferences(tmp_path / "out")


def test_the_whole_way_for_many(known_site: Site, tmp_path: Path) -> None:
    site = known_site
    collect(site, people=12, questions=1)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms)
    pairs, features = load_config(out, "pairwise"), load_config(out, "features")
    assert set(pairs["split"]) == {"train", "test"}
    assert pairs["worker_id"].n_unique() == 12
    assert features.height == pairs.height + load_config(out, "pointwise").height == 36
    rows = [json.loads(line) for line in (out / "trl" / "kto.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "test"}
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert site.pseudonyms.person("p3").encode() not in content
    for path in (out, *out.rglob("*")):  # when it was written, and when somebody was taken out of it
        assert path.stat().st_mode & 0o077 == 0
    delete_person(site.store, site.pseudonyms, "p3")
    for path in (out, *out.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


def test_who_did_not_agree_or_withdrew_is_not_exported(site: Site, tmp_path: Path) -> None:
    collect(site, people=3)
    # Rated, but never sent a batch, so that nothing says they agreed to be recorded.
    silent = site.register("silent", "q0")["token"]
    site.post("ratings", {"token": silent, "rating": 5})
    site.forget(site.register("p1", "q0")["person_token"])
    export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    workers = {site.pseudonyms.worker(site.pseudonyms.person(person)) for person in ("p0", "p2")}
    for config in present_configs(tmp_path / "out"):
        thumbed = config == "preferences_thumbs"  # which nobody did
        assert set(load_config(tmp_path / "out", config)["worker_id"]) == (set() if thumbed else workers)


def test_nothing_is_exported_of_too_few(site: Site, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="of 0 people"):
        export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    collect(site, people=1)
    with pytest.raises(IfllmError, match="of 1 people whose consent stands; 5 are needed"):
        export_dataset(site.store, tmp_path / "out", site.pseudonyms, least_people=5)
    assert not (tmp_path / "out").exists()


def test_a_deletion_reaches_what_was_exported(site: Site, tmp_path: Path) -> None:
    collect(site, people=3)
    out, gone, lost = (tmp_path / name for name in ("out", "gone", "lost"))
    for folder in (out, gone):
        export_dataset(site.store, folder, site.pseudonyms)
    gone.rename(lost)
    worker = site.pseudonyms.worker(site.pseudonyms.person("p1"))
    before = load_config(out, "features")
    assert site.forget(site.register("p1", "q0")["person_token"]).status_code == 204
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert worker.encode() not in content
    assert b"left 1 0" not in content
    kept = load_config(out, "features")
    assert kept.drop("split").equals(before.filter(pl.col("worker_id") != worker).drop("split"))
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["people"], manifest["erased_later"]) == (2, 3)
    assert "3 questions of people who withdrew later" in (out / "README.md").read_text()
    assert (out / "trl" / "preferences_explicit.jsonl").read_text().count("\n") == 2
    # By the command, with what it says.
    told = delete_person(site.store, site.pseudonyms, "p0")
    assert told[0].startswith("store: 3 batches deleted")
    assert told[1] == f"{gone}: there is no export here any more; if it was moved or copied, delete the person there"
    assert told[2] == f"{out}: 3 questions removed"
    delete_person(site.store, site.pseudonyms, "p2")
    assert not out.exists()  # nobody is left
    assert site.store.erasures() == []


def test_a_deletion_reaches_what_an_earlier_version_exported(site: Site, tmp_path: Path) -> None:
    """When there were no columns of the viewport, and no thumbs."""
    collect(site, people=2)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms)
    for config in ("trajectories", "features"):
        for path in (out / "data" / config).iterdir():
            rows = pl.read_parquet(path)
            added = ("viewport_t", "viewport_f", "viewport_d", "gaze_a")
            later = [name for name in rows.columns if name.startswith(added)]
            assert len(later) > 2
            rows.drop(later).write_parquet(path)
    for config in ("signals", "preferences_thumbs"):
        shutil.rmtree(out / "data" / config)
    kept = pl.concat(pl.read_parquet(path) for path in sorted((out / "data/trajectories").iterdir()))
    told = delete_person(site.store, site.pseudonyms, "p1")
    assert told[1] == f"{out}: 3 questions removed"
    worker = site.pseudonyms.worker(site.pseudonyms.person("p1"))
    left = pl.concat(pl.read_parquet(path) for path in sorted((out / "data/trajectories").iterdir()))
    assert left.equals(kept.filter(pl.col("worker_id") != worker))
    assert worker.encode() not in b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_labels_of_readers_without_a_cursor(site: Site, tmp_path: Path) -> None:
    """On a phone: what they say counts, and no model labels the pair."""
    tokens = site.pair("ada", "q1")
    site.send(tokens, views=[[1_000 + 500 * at, at % 2, 0, 300, 1_000, 50, 650] for at in range(30)])
    site.post("ratings", {"token": tokens[0], "preference": "right"})
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms)
    assert load_config(out, "preferences_explicit")["chosen"][0][0]["content"].startswith("right ")
    assert load_config(out, "preferences_shipped_forest").is_empty()


def test_a_deletion_that_fails_is_made_up_for(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(site, people=2)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms)
    with monkeypatch.context() as broken:
        broken.setattr(
            "ifllm_hub.collect.export.dataset.write_card", lambda _: (_ for _ in ()).throw(IfllmError("disk full"))
        )
        told = delete_person(site.store, site.pseudonyms, "p1")
    assert told[1] == f"{out}: failed, will be tried again (disk full)"
    assert load_config(out, "features")["worker_id"].n_unique() == 2  # as it was
    assert erase_exports(site.store) == [f"{out}: 3 questions removed"]
    assert load_config(out, "features")["worker_id"].n_unique() == 1


def test_who_withdraws_while_it_is_written(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(site, people=2)
    from ifllm_hub.collect.export import dataset as export

    write_trl_rows = export.write_trl_rows

    def withdraw_first(folder: Path, sources: Sequence[str]) -> dict[str, int]:
        monkeypatch.setattr(export, "write_trl_rows", write_trl_rows)
        pseudonym = site.pseudonyms.person("p1")
        site.store.withdraw(pseudonym, site.pseudonyms.worker(pseudonym), 2**41).result()
        return write_trl_rows(folder, sources)

    monkeypatch.setattr(export, "write_trl_rows", withdraw_first)
    export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    assert load_config(tmp_path / "out", "features")["worker_id"].unique().to_list() == [
        site.pseudonyms.worker(site.pseudonyms.person("p0"))
    ]
    assert site.store.erasures() == []


def test_two_conversations_in_turn_keep_their_own_histories(site: Site, tmp_path: Path) -> None:
    """As in two tabs."""
    for number, tab in enumerate("abab"):
        for side in ("left", "right"):
            answer = {"text": f"{side} {number}", "conversation": tab, "consent": "2026-11-29"}
            token = site.register("ada", f"q{number}", side, **answer)["token"]
        assert site.post("ratings", {"token": token, "preference": "left"}).status_code == 202
    export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    rows = load_config(tmp_path / "out", "pairwise")
    said = {row["query"]: [turn["content"] for turn in row["messages_right"]] for row in rows.iter_rows(named=True)}
    first, second = "What about q0?", "What about q1?"
    assert said == {
        first: [first],
        second: [second],
        "What about q2?": [first, "right 0", "What about q2?"],
        "What about q3?": [second, "right 1", "What about q3?"],
    }
