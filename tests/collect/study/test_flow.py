"""The study's flow by plain Python: what must be done before what, what is drawn, what is stored and what is not."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from ifllm_hub.collect import CONSENT
from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Rate, Settings
from ifllm_hub.collect.store.refusals import Withdrawn
from ifllm_hub.collect.store.tables import CONSENTS, NOTES, RATINGS, RESPONSES
from ifllm_hub.collect.study.app import create_study
from ifllm_hub.collect.study.flow import Study
from ifllm_hub.collect.study.models import AnswerFailed, EchoModel
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.state import PROTOCOLS, NotYet, Participant, Protocol, tidy
from ifllm_hub.dataset.schema import BULLETS
from ifllm_hub.errors import IfllmError

ADDRESS = "192.0.2.1"


class Script:
    """A model that gives pieces, and keeps what it was asked; a piece that is an error is raised."""

    def __init__(self, name: str, *pieces: str | Exception):
        self.name, self.pieces, self.asked = name, pieces, []

    async def stream(self, messages: Sequence[dict[str, str]], max_tokens: int) -> AsyncIterator[str]:
        self.asked.append(list(messages))
        for piece in self.pieces:
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """A function that makes a study, whose clock is `study.now`, over one store."""
    collector = Collector(Settings(tmp_path / "collected", consents=("v1",), address_ask_rate=Rate(1_000, 1_000)))

    def make(*models: Any, protocol: Protocol = PROTOCOLS["paper"], seed: int = 0, **limits: Any) -> Study:
        collector.settings = replace(collector.settings, **limits)
        study = Study(collector, models, protocol, "v1", random.Random(seed), lambda: study.now)
        study.now = 0.0
        return study

    yield make
    collector.store.close()


async def chatting(study: Study) -> Participant:
    participant = study.begin()
    await study.agree(participant, ADDRESS)
    await study.start(participant, "Bees", 2)
    return participant


async def ask(study: Study, participant: Participant, query: str) -> None:
    async for _ in study.ask(participant, query, ADDRESS):
        pass


async def rate(study: Study, participant: Participant, turn: int = 2) -> None:
    pairwise = participant.mode == "pairwise"
    ratings = {"left": 4, "right": 2} if pairwise else {"left": 4}
    await study.rate(participant, ratings, "left" if pairwise else None, True if not pairwise and turn > 1 else None)


def rows(study: Study, table: Any) -> list[dict[str, Any]]:
    with study.collector.store.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table))]


async def refused(attempt: Awaitable[Any], match: str) -> None:
    with pytest.raises(IfllmError, match=match):
        await attempt


def test_the_papers_rules(make: Callable[..., Study]) -> None:
    study = make(Script("a", "one ", "two"), Script("b", "three"), seed=1)

    async def run() -> None:
        participant = study.begin()
        await refused(ask(study, participant, "Hello?"), "not possible now")
        await refused(study.start(participant, "Bees"), "not possible now")
        assert study.collector.store.counts()["people"] == 0
        await study.agree(participant, ADDRESS)
        await refused(study.describe(participant, {"age": "41"}), "offered for age")
        await refused(study.describe(participant, {"name": "Ada"}), "offered for name")
        await study.describe(participant, {"age": "40-49", "education": None})
        await study.start(participant, "Bees", 2)
        await refused(study.rate(participant, {"left": 1, "right": 1}, "left"), "no complete answer")
        await refused(study.finish(participant, "Something"), r"3 more questions and 4:00 more minutes")
        await refused(ask(study, participant, "  \0 "), "type a question")
        await refused(ask(study, participant, "x" * 5_000), "at most 4,000")
        for number in range(3):
            await ask(study, participant, f"Question {number}?")
            await refused(ask(study, participant, "Next?"), "rate the answers")
            await refused(study.rate(participant, {}), "rate each answer")
            await refused(study.rate(participant, {"left": 6, "right": 6}, "left"), "1 to 5")
            await rate(study, participant, number + 1)
        study.now = 239.0
        await refused(study.finish(participant, "Something"), r"^Not finished yet: 0:01 more minutes to go")
        study.now = 240.0
        await refused(study.finish(participant, " "), "what you learned")
        await study.finish(participant, "That they dance.", 4)
        await refused(ask(study, participant, "More?"), "not possible now")

    asyncio.run(run())
    notes = {row["name"]: row["value"] for row in rows(study, NOTES)}
    assert notes == {
        "age": "40-49",
        "topic": "Bees",
        "knowledge_before": "2",
        "knowledge_after": "4",
        "summary": "That they dance.",
        "finished": "yes",
    }
    assert [row["version"] for row in rows(study, CONSENTS)] == ["v1"]


def test_what_is_drawn(make: Callable[..., Study]) -> None:
    study = make(*(Script(name, "text") for name in "abc"))

    async def run() -> list[Participant]:
        people = [await chatting(study) for _ in range(120)]
        for participant in people:
            await ask(study, participant, "Why?")
        return people

    people = asyncio.run(run())
    pairs = [person for person in people if person.mode == "pairwise"]
    assert 40 < len(pairs) < 80
    assert all(len(person.models) == (2 if person.mode == "pairwise" else 1) for person in people)
    assert all(person.models["left"] is not person.models["right"] for person in pairs)
    lefts = [person.models["left"].name for person in pairs]
    assert all(lefts.count(name) > len(pairs) / 5 for name in "abc")
    bullets = [person.turns[0].bullet_points for person in people]
    assert 40 < sum(bullets) < 80
    stored = {row["question_id"]: row for row in rows(study, RESPONSES)}
    for person in people:
        turn = person.turns[0]
        row = stored[turn.answers["left"].question_id]
        # The suffix goes to the model and not into the data, as in the study.
        assert (row["query"], row["bullet_points"]) == ("Why?", turn.bullet_points)
    asked = {messages[0]["content"] for model in study._models for messages in model.asked}
    assert asked == {"Why?", "Why?" + BULLETS}


def test_each_side_remembers_its_own_answers(make: Callable[..., Study]) -> None:
    a, b = Script("a", "from a"), Script("b", "from b")
    study = make(a, b, protocol=Protocol("pairwise", 1, 0, 0.0, 500, False))

    async def run() -> None:
        participant = await chatting(study)
        await ask(study, participant, "First?")
        await rate(study, participant)
        await ask(study, participant, "Second?")

    asyncio.run(run())
    for model in (a, b):
        assert model.asked[-1] == [
            {"role": "user", "content": "First?"},
            {"role": "assistant", "content": f"from {model.name}"},
            {"role": "user", "content": "Second?"},
        ]
    rated = {row["response_id"]: row for row in rows(study, RATINGS)}
    sides = {row["response_id"]: row["side"] for row in rows(study, RESPONSES)}
    said = {sides[id_]: (row["rating"], row["preference"]) for id_, row in rated.items()}
    assert said == {"left": (4, "left"), "right": (2, None)}


def test_a_pointwise_answer_is_compared_with_the_one_before(make: Callable[..., Study]) -> None:
    study = make(Script("a", "text"), protocol=PROTOCOLS["pointwise"])

    async def run() -> None:
        participant = await chatting(study)
        await ask(study, participant, "First?")
        await study.rate(participant, {"left": 3})
        await ask(study, participant, "Second?")
        await refused(study.rate(participant, {"left": 3}), "better than the one before")
        await study.rate(participant, {"left": 3}, None, False)
        await study.finish(participant)

    asyncio.run(run())
    assert sorted(str(row["better_than_previous"]) for row in rows(study, RATINGS)) == ["False", "None"]


def test_a_model_that_fails(make: Callable[..., Study]) -> None:
    broken, late = AnswerFailed("no"), Script("late", "some ", AnswerFailed("no"))

    async def nothing(study: Study) -> None:
        participant = await chatting(study)
        with pytest.raises(AnswerFailed):
            await ask(study, participant, "Hello?")
        assert participant.turns == []
        assert study.collector.store.counts()["responses"] == 0
        await refused(study.rate(participant, {}), "no complete answer")

    asyncio.run(nothing(make(Script("a", "fine"), Script("b", broken), protocol=PROTOCOLS["pairwise"])))
    asyncio.run(nothing(make(Script("a", " ", "\n"), protocol=PROTOCOLS["pairwise"])))

    async def half(study: Study) -> None:
        participant = await chatting(study)
        await ask(study, participant, "Hello?")
        (turn,) = participant.turns
        assert (turn.broken, turn.done) == (True, True)
        assert {shown.text for shown in turn.answers.values()} == {"fine", "some"}
        await rate(study, participant)

    asyncio.run(half(make(Script("a", "fine"), late, protocol=PROTOCOLS["pairwise"])))


def test_an_answer_is_registered_while_it_grows(make: Callable[..., Study]) -> None:
    study = make(EchoModel("a", pause=0), EchoModel("b", pause=0), protocol=PROTOCOLS["pairwise"])

    async def run() -> list[tuple[str, str]]:
        participant = await chatting(study)
        seen = []
        async for turn in study.ask(participant, "Hello?", ADDRESS):
            seen.append((turn.answers["left"].token, turn.answers["left"].text))
            if not turn.done:
                await refused(ask(study, participant, "Again?"), "wait until the answers are complete")
        return seen

    seen = asyncio.run(run())
    assert len({token for token, _ in seen if token}) == 2
    assert all(seen[-1][1].startswith(text) for _, text in seen)
    assert {row["text"] for row in rows(study, RESPONSES) if row["side"] == "left"} == {seen[-1][1]}


def test_who_withdraws_is_gone_and_cannot_go_on(make: Callable[..., Study], tmp_path: Path) -> None:
    study = make(Script("a", "text"), Script("b", "text"), protocol=PROTOCOLS["pairwise"])

    async def run() -> None:
        stays, goes, deleted = [await chatting(study) for _ in range(3)]
        for participant in (stays, goes, deleted):
            await ask(study, participant, "Hello?")
            await rate(study, participant)
        await study.finish(deleted)
        await study.withdraw(goes, goes.code)
        with pytest.raises(Withdrawn):
            await ask(study, goes, "More?")
        await refused(study.delete("'; drop table people; --"), "not a code")
        await study.delete(f" {deleted.code.upper()} ")
        # From another page: the participant's own does not know yet, and nothing is stored again.
        await study.delete(stays.code)
        with pytest.raises(Withdrawn):
            await ask(study, stays, "More?")

    asyncio.run(run())
    counts = study.collector.store.counts()
    assert (counts["responses"], counts["ratings"]) == (0, 0)
    assert rows(study, NOTES) == []
    with pytest.raises(IfllmError, match="0 people"):
        export_dataset(study.collector.store, tmp_path / "out", study.collector.pseudonyms)


@given(st.lists(st.sampled_from(["a", " ", "\n", "\r", "\t", "\0", "\n\n", "\U0001f642"]), max_size=30))
def test_tidied_text_grows_at_its_end_only(pieces: list[str]) -> None:
    whole = tidy("".join(pieces))
    assert all(whole.startswith(tidy("".join(pieces[:count]))) for count in range(len(pieces)))
    assert "\n\n" not in whole


def test_a_study_needs_a_model(make: Callable[..., Study]) -> None:
    with pytest.raises(IfllmError, match="at least one model"):
        make()


def test_a_study_knows_the_version_it_asks_consent_to(make: Callable[..., Study], tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="v1: not a version of the consent text"):
        make(Script("a"), consents=("v2",))
    settings = StudySettings(Settings(tmp_path / "other"), models=("echo",), contact="Ada", consent_version="mine")
    study = create_study(settings)
    assert study.collector.settings.consents == (CONSENT, "mine")  # its own is one of them, whatever the settings say
    study.collector.close()


def test_models_are_asked_at_a_limited_rate(make: Callable[..., Study]) -> None:
    """By one participant, who cannot ask by the hour; and by one address, whoever the participants are."""

    async def questions(study: Study, people: int, each: int) -> int:
        asked = 0
        for _ in range(people):
            participant = await chatting(study)
            for turn in range(each):
                await ask(study, participant, "Why?")
                await rate(study, participant, turn + 1)
                asked += 1
        return asked

    model = Script("a", "text")
    slow = Rate(1e-9, 3)
    with pytest.raises(NotYet, match="many requests in a short time"):
        asyncio.run(questions(make(model, person_ask_rate=slow), people=1, each=4))
    assert len(model.asked) in (3, 6)  # of one answer or two
    study = make(model, person_ask_rate=Rate(1, 1_000), address_ask_rate=slow)
    with pytest.raises(NotYet, match="many requests in a short time"):
        asyncio.run(questions(study, people=3, each=1))  # consent and question of the first, consent of the second
    assert study.collector.store.counts()["people"] == 3  # 1 of the first study, 2 of this one


def test_no_more_answers_at_once_than_agreed(make: Callable[..., Study]) -> None:
    study = make(EchoModel("a", pause=0), protocol=PROTOCOLS["pairwise"], answers_at_once=3)

    async def run() -> None:
        first, second = [await chatting(study) for _ in range(2)]
        growing = study.ask(first, "Why?", ADDRESS)
        await anext(growing)
        await refused(ask(study, second, "Why?"), "Many people are asking")
        await growing.aclose()  # whoever leaves makes room
        await ask(study, second, "Why?")

    asyncio.run(run())
