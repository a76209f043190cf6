"""The addresses of the collector, as a page and an integrator's server use them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.settings import Rate, Secrets, Settings
from ifllm_hub.collect.store.store import now_ms
from ifllm_hub.collect.store.tables import BATCHES, RESPONSES
from ifllm_hub.collect.tokens import ResponseToken, Signer
from ifllm_hub.errors import IfllmError
from tests.collect.client import batch, encoded, reading, registration
from tests.collect.conftest import Site

NOTHING = {"people": 0, "responses": 0, "sessions": 0, "batches": 0, "ratings": 0, "erasures": 0}


def test_a_batch_is_taken_once(site: Site) -> None:
    tokens = site.pair("ada", "q1")
    first, again = (site.send(tokens, ticks=reading(1, 0)) for _ in range(2))
    assert (first.status_code, first.json()) == (202, {"accepted": True, "duplicate": False})
    assert (again.status_code, again.json()) == (202, {"accepted": True, "duplicate": True})
    assert site.store.counts()["batches"] == 1


def test_what_earlier_trackers_send_besides_is_taken_and_not_stored(site: Site) -> None:
    events = [[1, "consent", -1, None], [2, "scroll", 0, 40], [3, "shown", 0, None], [4, "visibility", -1, 0]]
    assert site.send(site.pair("ada", "q1"), events=events).status_code == 202
    with site.store.reading() as connection:
        (body,) = connection.scalars(select(BATCHES.c.body))
    assert [name for _, name, _, _ in json.loads(body)["events"]] == ["consent", "shown"]


def test_another_body_under_the_same_number_is_refused(site: Site) -> None:
    tokens = site.pair("ada", "q1")
    site.send(tokens, ticks=reading(1, 0))
    assert site.send(tokens, ticks=reading(2, 0)).status_code == 409
    assert site.store.counts()["batches"] == 1


def test_a_session_belongs_to_one_person(site: Site) -> None:
    site.send(site.pair("ada", "q1"))
    assert site.send(site.pair("eve", "q1"), sequence=1).status_code == 409


def test_one_batch_is_of_one_person(site: Site) -> None:
    tokens = [site.pair("ada", "q1")[0], site.pair("eve", "q1")[0]]
    response = site.send(tokens)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "mixed_people")


BROKEN: tuple[dict[str, Any], ...] = (
    {"v": 2},
    {"session": "x" * 32},
    {"session": "../../etc/passwd"},
    {"sequence": -1},
    {"sequence": 2**31},
    {"sequence": 0.0},
    {"sequence": "0"},
    {"consent": "a\nb"},
    {"consent": "v" * 65},
    {"consent": ""},
    {"origin": 2**53},
    {"viewport": [1280, 720]},
    {"viewport": [1280, 720, -1]},
    {"responses": []},
    {"ticks": [[0, 2, 0, 0, 0, 0]]},
    {"ticks": [[-1, 0, 0, 0, 0, 0]]},
    {"ticks": [[0, 0, 0, 0, -3, 0]]},
    {"ticks": [[0, 0, 0, 0, 32_768, 0]]},
    {"ticks": [[0, 0, 0, 0, 0, 3]]},
    {"ticks": [[0, 0, 10**9, 0, 0, 0]]},
    {"ticks": [[0, 0, 0, 0, 0, 0]] * 513},
    {"ticks": [[0, 0, 0, 0, 0]]},
    {"events": [[0, "keydown", 0, None]]},
    {"events": [[0, "copy", 0, "the text"]]},
    {"events": [[0, "copy", 0, None]] * 257},
    {"text": "what was read"},
)


def test_what_breaks_a_rule_is_refused_and_not_stored(site: Site) -> None:
    sound = batch(site.pair("ada", "q1"))
    for changes in BROKEN:
        response = site.post("batches", {**sound, **changes})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed"), changes
        assert "script" not in response.text
    assert site.store.counts()["batches"] == 0


def test_too_much_is_refused_before_it_is_read(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body=1_000)
    body = b'{"v": ' + b"1" * 2_000
    for content in (body, iter([body[:900], body[900:]])):  # with its length said, and without
        response = site.client.post("/ifllm/v1/batches", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
    assert site.store.counts() == NOTHING


def test_forms_are_not_json(site: Site) -> None:
    response = site.client.post("/ifllm/v1/batches", data={"v": 1})
    assert response.status_code == 415


def token_of(site: Site, **changes: Any) -> str:
    """A token that the collector could have signed, with its own key."""
    now = now_ms()
    fields = {
        "response_id": "0" * 32,
        "question_id": "q1",
        "side": "left",
        "text_sha256": "0" * 64,
        "text_length": 10,
        "person": "1" * 32,
        "issued_at": now,
        "expires_at": now + 60_000,
    }
    return Signer(Secrets.load(site.settings.folder).signing).sign(ResponseToken(**{**fields, **changes}))


def test_expired_and_forged_tokens(site: Site) -> None:
    assert site.send([token_of(site, expires_at=now_ms() - 1)]).status_code == 410
    forged = Signer([b"not the key of the collector"]).sign(
        ResponseToken("0" * 32, "q", "left", "0" * 64, 1, "1" * 32, now_ms(), now_ms() + 60_000)
    )
    assert site.send([forged]).status_code == 401
    assert site.send([token_of(site), forged]).status_code == 401
    for path in ("ratings", "score"):
        assert site.post(path, {"token": forged}).status_code == 401
    assert site.forget(forged).status_code == 401
    assert site.forget(token_of(site)).status_code == 401  # of another kind
    assert site.store.counts() == NOTHING


def test_registration_needs_the_key(site: Site) -> None:
    for key in ("", "wrong", "é"):
        response = site.client.post("/ifllm/v1/responses", json={}, headers={"X-Ifllm-Key": key.encode()})
        assert response.status_code == 401
    assert site.store.counts() == NOTHING


def test_the_arm_of_an_answer(site: Site) -> None:
    assert site.register("ada", "q1", arm="B: shorter", propensity=1)["token"]
    for broken in (
        {"arm": "B"},
        {"propensity": 0.5},
        {"arm": "B", "propensity": 0},
        {"arm": "B", "propensity": 1.5},
        {"arm": "B", "propensity": "0.5"},
        {"arm": "", "propensity": 0.5},
        {"arm": "B\n", "propensity": 0.5},
        {"arm": "b" * 65, "propensity": 0.5},
    ):
        body = registration("ada", "q2", "left", "text", **broken)
        response = site.client.post("/ifllm/v1/responses", json=body, headers={"X-Ifllm-Key": site.key})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed"), broken
    body = registration("ada", "q1", "right", "text", arm="A", propensity=0.5)
    response = site.client.post("/ifllm/v1/responses", json=body, headers={"X-Ifllm-Key": site.key})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "other_arm")
    assert site.store.counts()["responses"] == 1


def test_the_script_is_called_what_no_blocker_knows(site: Site) -> None:
    assert site.client.get("/ifllm/ifllm.js").status_code == 200
    assert site.client.get("/ifllm/tracker.js").status_code in (404, 405)


def test_rates_are_limited(make_site: Callable[..., Site]) -> None:
    site = make_site(session_rate=Rate(0.5, 3))
    tokens = site.pair("ada", "q1")
    statuses = [site.send(tokens, sequence=sequence) for sequence in range(4)]
    assert [response.status_code for response in statuses] == [202, 202, 202, 429]
    assert 1 <= int(statuses[3].headers["retry-after"]) <= 2
    assert site.send(tokens, session=1).status_code == 202


def test_the_body_of_a_withdrawn_person_is_refused(site: Site) -> None:
    tokens = site.pair("ada", "q1")
    person = site.register("ada", "q1")["person_token"]
    other = site.pair("bob", "q1")
    site.send(tokens, ticks=reading(1, 0))
    site.send(other, session=1, ticks=reading(1, 0))
    site.post("ratings", {"token": tokens[0], "rating": 5})
    assert site.forget(person).status_code == 204
    assert site.forget(person).status_code == 204  # again is no harm
    for response in (site.send(tokens, sequence=1), site.post("ratings", {"token": tokens[0], "rating": 1})):
        assert (response.status_code, response.json()["error"]["code"]) == (410, "withdrawn")
    counts = site.store.counts()
    assert (counts["batches"], counts["responses"], counts["ratings"], counts["sessions"]) == (1, 2, 0, 1)
    key = {"X-Ifllm-Key": site.key}
    again = registration("ada", "q2", "left", "text")
    assert site.client.post("/ifllm/v1/responses", json=again, headers=key).status_code == 410
    # Who agrees again is let in again, and the old tokens stay refused.
    renewed = site.register("ada", "q2", consent="2026-11-29")["token"]
    assert site.send([renewed], session=2).status_code == 202
    assert site.send(tokens, sequence=1).status_code == 410


def test_a_person_has_a_token_before_there_is_an_answer(site: Site) -> None:
    """What a page needs at its first visit, and what deletes after a reload. Asking for it stores nothing."""
    key = {"X-Ifllm-Key": site.key}
    asked = site.client.post("/ifllm/v1/people", json={"person": "ada"}, headers=key)
    assert (asked.status_code, set(asked.json())) == (200, {"person_token", "expires_at"})
    assert site.store.counts() == NOTHING
    site.send(site.pair("ada", "q1"))
    site.send(site.pair("bob", "q1"), session=1)
    later = site.client.post("/ifllm/v1/people", json={"person": "ada"}, headers=key).json()["person_token"]
    assert site.forget(later).status_code == 204
    assert site.store.counts()["batches"] == 1
    stranger = site.client.post("/ifllm/v1/people", json={"person": "bob"})
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "bad_key")


def test_a_withdraw_event_deletes_too(site: Site) -> None:
    tokens = site.pair("ada", "q1")
    site.send(tokens, ticks=reading(1, 0))
    assert site.send(tokens, sequence=1, events=[[9, "withdraw", -1, None]]).status_code == 202
    assert site.send(tokens, sequence=2).status_code == 410
    assert site.store.counts() == {**NOTHING, "people": 1}


@pytest.mark.parametrize("name", ["ifllm.js", "diagnose.js", "answers.js"])
def test_head_of_the_scripts(site: Site, name: str) -> None:
    assert site.client.head(f"/ifllm/{name}").headers["content-type"].startswith("text/javascript")


def test_versions_of_the_consent_text(make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture) -> None:
    site = make_site(consents=("2026-11-29", "2027-01-01"))
    tokens = site.pair("ada", "q1")
    for sequence, version in enumerate(site.settings.consents):
        assert site.send(tokens, sequence=sequence, consent=version).status_code == 202
    key = {"X-Ifllm-Key": site.key}
    unknown = registration("ada", "q1", "left", "text", consent="v29")
    with caplog.at_level("WARNING"):
        for response in (
            site.send(tokens, sequence=2, consent="v29"),
            site.send(tokens, sequence=3, consent="<script>alert(1)</script>"),
            site.client.post("/ifllm/v1/responses", json=unknown, headers=key),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (400, "unknown_consent")
            assert "script" not in response.text
    told = [record.getMessage() for record in caplog.records if record.name.startswith("ifllm_hub")]
    assert told == ["a page reports under a version of the consent text other than 2026-11-29, 2027-01-01: refused"]
    # Withdrawing needs no version.
    assert site.send(tokens, sequence=4, consent="v29", events=[[9, "withdraw", -1, None]]).status_code == 202
    assert site.store.counts()["batches"] == 0
    with pytest.raises(IfllmError, match="--consent"):
        make_site(consents=())


@pytest.mark.parametrize("version", ["", "v" * 65, "two\nlines", "2026-11-29\n"])
def test_a_version_of_which_no_page_could_report(tmp_path: Path, version: str) -> None:
    with pytest.raises(IfllmError, match="1 to 64 printable characters"):
        Settings(tmp_path, consents=(version,))


@pytest.mark.parametrize(
    ("age_ms", "origin", "off"),
    [
        (1_000, 0, False),
        (25 * 24 * 3600 * 1000, 0, False),  # a tab that was never closed
        (1_000, -16 * 365 * 24 * 3600 * 1000, True),
        (1_000, 90_000_000, True),
        (1_000, -40_000, False),
    ],
)
def test_clocks_and_versions_as_they_are(
    make_site: Callable[..., Site], tmp_path: Path, age_ms: int, origin: int, off: bool
) -> None:
    """Nothing is refused for them; a reading by a clock that is wrong is whole, and marked."""
    site = make_site(consents=("Version 2 (May 2026)",))
    tokens = site.pair("ada", "q1")
    answer = site.send(
        tokens,
        consent="Version 2 (May 2026)",
        origin=now_ms() - age_ms - 1_000 + origin,
        ticks=reading(2, 0, start=age_ms),
    )
    assert answer.status_code == 202
    manifest = export_dataset(site.store, tmp_path / "out", site.pseudonyms)
    assert manifest["ticks"] == {"received": 25, "kept": 25}
    assert manifest["batches_of_wrong_clocks"] == off


def test_a_day_holds_so_much_of_a_person(make_site: Callable[..., Site]) -> None:
    site = make_site(person_day_bytes=10_000)
    tokens, other = site.pair("ada", "q1"), site.pair("bob", "q1")
    sent = [site.send(tokens, session=n, sequence=n) for n in range(12)]
    taken = [response.status_code for response in sent].count(202)
    assert 6 <= taken <= 9  # each some 250 bytes and a row
    refused = sent[-1]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_reached")
    assert 1 <= int(refused.headers["retry-after"]) <= 24 * 3600
    assert site.store.counts()["batches"] == taken
    assert site.send(tokens).json()["duplicate"]  # what was taken is confirmed
    assert site.send(other, session=99).status_code == 202
    assert site.send(tokens, sequence=99, events=[[9, "withdraw", -1, None]]).status_code == 202
    assert site.store.counts()["batches"] == 1


def test_the_longest_texts_fit_however_json_spells_them(site: Site) -> None:
    longest = "\U0001f642" * 32_767
    body = registration("ada", "q1", "left", longest, query=longest)
    for ascii_only in (True, False):
        content = json.dumps(body, ensure_ascii=ascii_only).encode()
        headers = {"Content-Type": "application/json", "X-Ifllm-Key": site.key}
        assert site.client.post("/ifllm/v1/responses", content=content, headers=headers).status_code == 200
    assert len(content) > site.settings.max_body


def test_what_people_paste_and_ids_as_they_are(site: Site) -> None:
    """Whatever was asked, in whatever system: the answer can be read."""
    key = {"X-Ifllm-Key": site.key, "Content-Type": "application/json"}
    queries = {"a" * 48_000: 48_000, "潮" * 99_999: 99_999, "\U0001f642" * 150_000: 100_000, "a\x00b": 3}
    ids = ("_V1StGXR8_Z5jdHi6B-my", "-x", "ada@example.org", "threads/a1/42", "YWJj+/==", "@ada:example.org")
    for question, (query, length) in zip(ids, queries.items(), strict=False):
        body = registration("ada", question, "left", "潮" * 32_767, query=query, conversation=ids[-1])
        answer = site.client.post("/ifllm/v1/responses", content=json.dumps(body).encode(), headers=key)
        assert answer.status_code == 200, answer.text
        assert site.send([answer.json()["token"]], ticks=reading(1, 0), session=length).status_code == 202
        with site.store.reading() as connection:
            kept = connection.scalar(select(RESPONSES.c.query).where(RESPONSES.c.question_id == question))
        assert kept == query[:length].replace("\x00", "\ufffd")
    for number, question in enumerate((*ids, "q" * 128)):
        token = site.register("eve", question)["token"]
        assert site.send([token], session=1_000_000 + number).status_code == 202
    for question in ("", "q" * 129, "a b", "é", "a\n", "../x", "<b>"):
        body = registration("ada", question, "left", "text")
        assert site.client.post("/ifllm/v1/responses", json=body, headers=key).status_code == 400


def test_a_page_asks_what_would_become_of_its_tokens(site: Site) -> None:
    good = site.register("ada", "q1")
    withdrawn = site.register("eve", "q1")
    site.forget(withdrawn["person_token"])
    expired = ResponseToken("r", "q", "left", "", 0, "p", 1, 2)
    tokens = [
        good["token"],
        withdrawn["token"],
        site.collector.signer.sign(expired),
        good["person_token"],
        "é" * 2_000,
    ]
    before = site.store.counts()
    asked = {"responses": tokens, "person": good["person_token"], "consent": "v9", "filler": "-" * 50_000}
    response = site.client.post("/ifllm/v1/check", content=encoded(asked), headers={"Content-Type": "text/plain"})
    assert response.status_code == 200, response.text
    said = response.json()
    codes = [error and error["code"] for error in said["responses"]]
    assert codes == [None, "withdrawn", "expired_token", "bad_token", "bad_token"]
    assert (said["person"], said["consent"]["code"]) == (None, "unknown_consent")
    assert abs(said["now"] - now_ms()) < 60_000
    assert site.store.counts() == before
