"""The config `signals`: what pages sent, to values by hand, and what becomes of thumbs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.export.readings import readings_of
from ifllm_hub.collect.export.upkeep import delete_person, erase_exports
from ifllm_hub.collect.settings import PSEUDONYM_KEY
from ifllm_hub.dataset.contents import check_rows
from ifllm_hub.dataset.load import load_config, scan_config
from ifllm_hub.dataset.schema import SIGNALS
from ifllm_hub.errors import IfllmError
from tests.collect.client import reading
from tests.collect.conftest import Site

NAMES = [column.name for column in SIGNALS[3:]]
NOTHING = {"copied_left": 0, "regenerated": False, "followed_up": False}


def signals(site: Site, person: str = "ada") -> list[dict[str, Any]]:
    """By question, without ids and what is null."""
    with site.store.reading() as connection:
        questions = readings_of(connection, [site.pseudonyms.person(person)], site.pseudonyms).questions
    rows = questions.select(NAMES).iter_rows(named=True)
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def test_what_a_page_told_by_hand(site: Site) -> None:
    pair = site.pair("ada", "q1")
    events = [
        [1_000, "stream_start", 0, None],
        [1_100, "stream_start", 1, None],
        [4_000, "stream_end", 1, None],
        [5_000, "stream_end", 0, None],
        [6_000, "copy", 0, 30],
        [6_500, "copy", 0, 12],
        [7_000, "thumb", 1, 1],
        [7_500, "thumb", 1, -1],
        [8_000, "regenerate", 1, None],
        [9_250, "vote", 0, None],
        [9_900, "first_key", -1, None],
    ]
    site.send(pair, events=events)
    assert signals(site) == [
        {
            "thumb_right": -1,
            "copied_left": 42,
            "copied_right": 0,
            "regenerated": True,
            "followed_up": False,
            "first_key_ms": 4_900,
            "decision_ms": 4_250,
        }
    ]


def test_without_a_stream_an_answer_is_complete_when_it_comes_into_view(site: Site) -> None:
    token = site.register("ada", "q1")["token"]
    site.send([token], events=[[500, "shown", 0, None], [900, "shown", 0, None], [3_000, "thumb", 0, 1]])
    assert signals(site) == [{**NOTHING, "thumb_left": 1, "decision_ms": 2_500}]


def test_a_first_key_belongs_to_the_answers_that_appeared_last(site: Site) -> None:
    one, two = (site.register("ada", f"q{n}")["token"] for n in (1, 2))
    events = [
        [100, "first_key", -1, None],  # before anything was there
        [1_000, "stream_start", 0, None],
        [2_000, "stream_end", 0, None],
        [5_000, "first_key", -1, None],
        [6_000, "stream_start", 1, None],
        [6_500, "first_key", -1, None],  # while it streams
        [7_000, "stream_end", 1, None],
    ]
    site.send([one, two], events=events)
    site.send([one], session=1, events=[[9_000, "first_key", -1, None]])  # of another page, which showed nothing
    assert [row.get("first_key_ms") for row in signals(site)] == [3_000, None]


def test_a_vote_counts_from_what_its_own_page_showed(site: Site) -> None:
    """A page of another clock, and one that was opened again the next day."""
    token = site.register("ada", "q1")["token"]
    stream = [[1_000, "stream_start", 0, None], [2_000, "stream_end", 0, None]]
    site.send([token], events=[*stream, [3_000, "vote", 0, None]])
    assert signals(site)[0]["decision_ms"] == 1_000
    site.send([token], session=1, events=[[90_000_000, "shown", 0, None], [90_000_700, "vote", 0, None]])
    assert signals(site)[0]["decision_ms"] == 700
    site.send([token], session=2, events=[[99_000_000, "vote", 0, None]])  # on what it had not shown
    assert "decision_ms" not in signals(site)[0]


def test_a_follow_up_asks_something_else_in_the_same_conversation(site: Site) -> None:
    asked = (("q1", "c1", "why?"), ("q2", "c2", "why?"), ("q3", "c1", "why?"), ("q4", "c1", "and then?"))
    for question, conversation, query in asked:
        token = site.register("ada", question, conversation=conversation, query=query)["token"]
        if question != "q4":  # of which nothing is recorded: it was asked all the same
            site.post("ratings", {"token": token, "rating": 3})
    site.post("ratings", {"token": site.register("bob", "q1", conversation="c2", query="else?")["token"], "rating": 3})
    assert [row["followed_up"] for row in signals(site)] == [True, False, True]


def test_what_no_page_told_is_not_known(site: Site) -> None:
    rated, seen = (site.register("ada", f"q{n}", conversation=f"c{n}")["token"] for n in (1, 2))
    site.post("ratings", {"token": rated, "rating": 3})
    site.send([seen], ticks=reading(1, 0))
    assert signals(site) == [{"followed_up": False}, NOTHING]


def test_numbers_that_no_tracker_sends_do_no_harm(site: Site) -> None:
    token, most = site.register("ada", "q1")["token"], 2**31 - 1
    named = [("thumb", 7), ("copy", -5), ("copy", most), ("copy", most)]
    site.send([token], events=[[n, name, 0, value] for n, (name, value) in enumerate(named)])
    zero = site.register("ada", "q2", conversation="c2")["token"]
    site.send([zero], sequence=1, events=[[0, "thumb", 0, 0]])
    assert signals(site) == [{**NOTHING, "thumb_left": 1, "copied_left": most}, NOTHING]


def say(site: Site, person: str, session: int) -> dict[str, str]:
    """Two single answers with thumbs, and pairs with every two thumbs; the texts that are better."""
    events = []
    tokens = [site.register(person, f"one{n}", text=f"{person} one {n}")["token"] for n in (1, -1)]
    events += [[n, "thumb", n, thumb] for n, thumb in enumerate((1, -1))]
    better = {}
    for left in (1, -1, None):
        for right in (1, -1, None):
            name = f"{person} {left} {right}"
            tokens += site.pair(person, f"{left}/{right}", *(f"{name} {side} " * 9 for side in ("left", "right")))
            events += [
                [50, "thumb", len(tokens) - 2 + n, thumb] for n, thumb in enumerate((left, right)) if thumb is not None
            ]
            if (left or 0) != (right or 0):
                better[name] = "left" if (left or 0) > (right or 0) else "right"
    for part in range(0, len(tokens), 16):
        of_part = [[t, name, r - part, value] for t, name, r, value in events if part <= r < part + 16]
        ticks = [[100 * n, n, 1, 1, 0, 0] for n in range(len(tokens[part : part + 16]))]
        assert site.send(tokens[part : part + 16], session, part, events=of_part, ticks=ticks).status_code == 202
    return better


@pytest.mark.parametrize("shards", [1, 3])
def test_thumbs_are_labels(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shards: int
) -> None:
    monkeypatch.setenv(PSEUDONYM_KEY, "the same in every run 0")  # with which both splits have people
    site, better = make_site(), dict[str, str]()
    for number in range(12):
        better |= say(site, f"p{number}", number)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms, shards=shards)
    chosen = load_config(out, "preferences_thumbs").select(
        chosen=pl.col("chosen").list.first().struct.field("content"), flip="flip_prob"
    )
    assert sorted(chosen["chosen"]) == sorted(f"{name} {side} " * 9 for name, side in better.items())
    assert set(chosen["flip"]) == {0}
    rows = [json.loads(line) for line in (out / "trl/kto_thumbs.jsonl").read_text().splitlines()]
    answers = {row["completion"][0]["content"]: row["label"] for row in rows}
    assert answers == {f"p{number} one {thumb}": thumb > 0 for number in range(12) for thumb in (1, -1)}
    assert len(rows) == len(answers)
    assert load_config(out, "preferences_explicit").is_empty()


def test_they_go_with_the_person(site: Site, tmp_path: Path) -> None:
    for number in range(3):
        say(site, f"p{number}", number)
    out = tmp_path / "out"
    export_dataset(site.store, out, site.pseudonyms)
    questions = sum(rows.height for mode in ("pairwise", "pointwise") for rows in scan_config(out, mode))
    assert load_config(out, "signals").height == questions == 3 * 11
    delete_person(site.store, site.pseudonyms, "p1")
    assert erase_exports(site.store) == []
    left = load_config(out, "signals")
    assert left.height == 2 * 11
    assert site.pseudonyms.worker(site.pseudonyms.person("p1")) not in set(left["worker_id"])
    assert "`signals`" in (out / "README.md").read_text()


def test_a_row_that_is_missing_is_found(site: Site, tmp_path: Path) -> None:
    say(site, "ada", 0)
    out = tmp_path / "out"
    questions = export_dataset(site.store, out, site.pseudonyms)["questions"]
    check_rows(out, questions)
    for file in (out / "data/signals").iterdir():
        pl.read_parquet(file)[1:].write_parquet(file)
    with pytest.raises(IfllmError, match="has 10 rows of signals, but 11 were counted"):
        check_rows(out, questions)
