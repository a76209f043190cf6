"""The live score: the shipped model's probability where there was enough reading, else the reason why not."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import create_engine, update

from ifllm_hub.collect.export.reading_time import LEAST_DWELL_MS
from ifllm_hub.collect.export.readings import readings_of
from ifllm_hub.collect.export.upkeep import apply_retention
from ifllm_hub.collect.store.tables import BATCHES
from ifllm_hub.features.centering import PRIOR_READINGS
from ifllm_hub.features.extract import extract_features, feature_rows
from ifllm_hub.reward.engagement import LEAST_OTHERS, SLOPE
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from tests.collect.client import reading
from tests.collect.conftest import Site
from tests.waiting import until


def test_the_shipped_model_by_hand(site: Site) -> None:
    tokens = site.pair("ada", "q1", left="l" * 400, right="r" * 300)
    ticks = reading(8, 0) + reading(4, 1, start=20_000, length=300)
    site.send(tokens, ticks=ticks, events=[[9_000, "leave", 0, 0]])
    got = site.post("score", {"token": tokens[1]}).json()["probability_left"]
    # 100 and 50 ticks of 80 ms, each answer from its first to nearly its last cell of 50 code points; a person read
    # once keeps three quarters of each contrast, and the dwell ratio has 500 ms added to both sides.
    kept = PRIOR_READINGS / (1 + PRIOR_READINGS)
    model = ImplicitFeedbackReward.from_pretrained(default_model())
    row = {
        "length_log_ratio": np.log(400 / 300),
        "mouse_dwell_log_ratio_centered": kept * np.log((8_000 + 500) / (4_000 + 500)),
        "mouse_coverage_diff_centered": kept * 0.0,
        "gaze_dwell_log_ratio_centered": np.nan,
        "gaze_coverage_diff_centered": np.nan,
    }
    assert got == pytest.approx(model.score({name: [value] for name, value in row.items()})[0], abs=1e-9)


def test_it_abstains(site: Site) -> None:
    unread, touched, short = (site.pair("ada", f"q{n}") for n in (2, 3, 4))
    even = site.pair("bob", "q1", "l" * 400, "r" * 400)
    site.send(touched, sequence=1, ticks=[[*tick[:5], 2] for tick in reading(10, 0)])
    site.send(short, sequence=2, ticks=reading(LEAST_DWELL_MS / 1_000 - 0.5, 1))
    site.send(even, session=1, ticks=reading(6, 0) + reading(6, 1, start=20_000))
    for tokens, reason in (
        (unread, "not_read"),
        (touched, "touch"),
        (short, "too_little"),
        (even, "undecided"),
    ):
        for token in tokens:
            assert site.post("score", {"token": token}).json() == {"abstain": True, "reason": reason}


def test_a_single_answer_is_ranked_among_the_readers_others(site: Site) -> None:
    seconds, lengths = (2.0, 3.0, 4.0, 6.0, 9.0, 14.0), (400, 900, 200, 400, 1_600, 400)
    tokens = [site.register("ada", f"q{n}", text="w" * length)["token"] for n, length in enumerate(lengths)]
    unread, brief, other = (site.register(*who)["token"] for who in (("ada", "u"), ("ada", "b"), ("bob", "q0")))
    for n, (token, time, length) in enumerate(zip(tokens, seconds, lengths, strict=True)):
        got = site.post("score", {"token": token}).json()
        assert got == {"engagement": None, "abstain": True, "reason": "not_read"}
        site.send([token], sequence=n, ticks=reading(time, 0, length=length))
        reasons = [site.post("score", {"token": each}).json().get("reason") for each in tokens[: n + 1]]
        assert reasons == ["few_readings" if n < LEAST_OTHERS else None] * (n + 1)
    site.send([brief], sequence=20, ticks=reading(0.5, 0))
    site.send([other], session=1, ticks=reading(30, 0))
    stay = [np.log(1_000 * time + 500) - SLOPE * np.log(length) for time, length in zip(seconds, lengths, strict=True)]
    for token, mine in zip(tokens, stay, strict=True):
        rank = (sum(one < mine for one in stay) + 0.5) / len(stay)
        assert site.post("score", {"token": token}).json() == {"engagement": pytest.approx(rank)}
    for token, reason in ((unread, "not_read"), (brief, "too_little"), (other, "few_readings")):
        assert site.post("score", {"token": token}).json() == {"engagement": None, "abstain": True, "reason": reason}


def test_a_single_answer_read_by_touch_is_known_by_the_screen(site: Site) -> None:
    """With a tracker that says what is on the screen, and with one that does not."""
    tokens = [site.register("ada", f"q{n}", text="w" * 400)["token"] for n in range(7)]
    for n, token in enumerate(tokens):
        touched = [[*tick[:5], 2] for tick in reading(0.4, 0)]
        views = [[1_000 + 500 * at, 0, 0, 399, 1_000, 50, 650] for at in range(4 + n)] if n else []
        site.send([token], sequence=n, ticks=touched, views=views)
    got = [site.post("score", {"token": token}).json() for token in tokens]
    assert got[0] == {"engagement": None, "abstain": True, "reason": "touch"}
    assert got[1:] == [{"engagement": pytest.approx((n + 0.5) / 6)} for n in range(6)]


def test_two_answers_on_the_screen_without_a_cursor_have_no_score(site: Site) -> None:
    """The model was trained on mice."""
    tokens = site.pair("ada", "q1")
    site.send(tokens, views=[[1_000 + 500 * at, at % 2, 0, 300, 1_000, 50, 650] for at in range(30)])
    assert site.post("score", {"token": tokens[0]}).json() == {"abstain": True, "reason": "no_cursor"}


def test_what_is_deleted_is_unknown(site: Site) -> None:
    made = site.register("ada", "q1")
    site.forget(made["person_token"])
    assert site.post("score", {"token": made["token"]}).status_code == 404


def count_extractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of questions, whenever features are made."""
    made: list[int] = []

    def counting(trajectories: pl.DataFrame) -> pl.DataFrame:
        made.append(trajectories.height)
        return extract_features(trajectories)

    monkeypatch.setattr("ifllm_hub.features.extract.extract_features", counting)
    return made


def test_only_what_is_new_is_made_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [site.pair("ada", f"q{n}") for n in range(4)]
    for n, tokens in enumerate(questions):
        site.send(tokens, sequence=n, ticks=reading(6 + n, 0) + reading(4, 1, start=20_000))
    monkeypatch.setattr("ifllm_hub.collect.live.score.LEAST_SURE", 0)
    made = count_extractions(monkeypatch)
    first = [site.post("score", {"token": tokens[0]}).json() for tokens in questions]
    assert made == [4]
    again = [site.post("score", {"token": tokens[1]}).json() for tokens in questions]
    assert (again, made) == (first, [4])
    site.send(questions[2], sequence=9, ticks=reading(5, 1, start=40_000))
    assert site.post("score", {"token": questions[0][0]}).json() != first[0]  # the habit is another
    assert made == [4, 1]
    # What is kept goes with the person.
    site.forget(site.register("ada", "q0")["person_token"])
    site.collector._scores.submit(lambda: None).result()
    assert not site.collector._scorer._known._people


def test_whatever_happens_between_scores(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches come late and go, answers are replaced and rated: each time it is as if all were made anew."""
    monkeypatch.setattr("ifllm_hub.collect.live.score.LEAST_SURE", 0)
    tokens = {f"q{n}": site.pair("ada", f"q{n}", left="left " * 80, right=f"right {n} " * 60) for n in range(3)}
    single = site.register("ada", "single")["token"]

    def say(question: str, sequence: int, ticks: list[list[int]]) -> None:
        assert site.send(tokens[question], session=sequence % 2, sequence=sequence, ticks=ticks).status_code == 202

    def old(sequence: int) -> None:
        with create_engine(site.settings.url).begin() as connection:
            connection.execute(update(BATCHES).where(BATCHES.c.sequence == sequence).values(received_at=0))
        apply_retention(site.store, 1)

    happenings: tuple[Callable[[], Any], ...] = (
        lambda: say("q0", 0, reading(8, 0) + reading(4, 1, start=20_000)),
        lambda: say("q1", 1, reading(4, 0) + reading(9, 1, start=20_000)),
        lambda: site.post("ratings", {"token": single, "rating": 3}),
        lambda: say("q0", 2, reading(9, 1, start=40_000)),
        lambda: say("q2", 3, [[*tick[:5], 2] for tick in reading(8, 0)]),
        lambda: say("q2", 4, reading(9, 0, start=60_000)),
        lambda: site.register("ada", "q1", "left", "another text " * 20),
        lambda: old(2),
        lambda: site.register("bob", "q0"),
        lambda: old(0),
    )
    said = []
    for happening in happenings:
        happening()
        said += [
            site.post("score", {"token": token}).json() for token in (*(left for left, _ in tokens.values()), single)
        ]
        with site.store.reading() as connection:
            readings = readings_of(connection, [site.pseudonyms.person("ada")], site.pseudonyms)
        known = site.collector._scorer._known._people[site.pseudonyms.person("ada")]
        anew = feature_rows(readings.trajectories).select(known.rows.columns)
        assert known.rows.sort("question_id").equals(anew.sort("question_id"))
        assert known.touched == readings.touched
    assert len({str(each) for each in said}) > 8


def test_who_is_forgotten_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ifllm_hub.collect.live.feature_cache._REMEMBERED", 1)
    tokens = [site.pair(person, "q1") for person in ("ada", "bob")]
    for n, pair in enumerate(tokens):
        site.send(pair, session=n, ticks=reading(8, 0) + reading(4, 1, start=20_000))
    monkeypatch.setattr("ifllm_hub.collect.live.score.LEAST_SURE", 0)
    made = count_extractions(monkeypatch)
    for pair in (tokens[0], tokens[1], tokens[1], tokens[0]):
        assert "probability_left" in site.post("score", {"token": pair[0]}).json()
    assert made == [1, 1, 1]
    assert len(site.collector._scorer._known._people) == 1


def test_nothing_waits_for_scores(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [site.register(f"p{n}", "q1") for n in range(40)]  # more than any pool of threads has
    go_on = threading.Event()
    monkeypatch.setattr("ifllm_hub.collect.live.score.Scorer.score", lambda *_: {"waited": go_on.wait(60)})
    with ThreadPoolExecutor(50) as clients:
        try:
            asked = [clients.submit(site.post, "score", {"token": person["token"]}) for person in people]
            until(lambda: len(site.collector._scoring) == len(people))
            # Another of the same person is not taken in; all the rest goes on.
            again = clients.submit(site.post, "score", {"token": people[0]["token"]}).result(30)
            assert (again.status_code, again.json()["error"]["code"]) == (429, "scoring")
            key = {"X-Ifllm-Key": site.key}
            assert clients.submit(site.client.get, "/ifllm/v1/health").result(30).status_code == 200
            assert clients.submit(site.client.get, "/ifllm/metrics", headers=key).result(30).status_code == 200
            assert clients.submit(site.forget, people[0]["person_token"]).result(30).status_code == 204
            assert clients.submit(site.send, [people[1]["token"]]).result(30).status_code == 202
            assert not any(each.done() for each in asked)
        finally:
            go_on.set()
        assert [each.result(30).json() for each in asked] == [{"waited": True}] * len(people)
    assert not site.collector._scoring
