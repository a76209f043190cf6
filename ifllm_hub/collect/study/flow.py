"""The study's flow, without a page: consent, questions, ratings, a summary; and which step needs which.

A participant is anyone who opened the page, known by a random code with which they can have everything deleted later.
"""

import asyncio
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

from ifllm_hub.collect import wire
from ifllm_hub.collect.export.upkeep import delete_person
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.limits import Buckets
from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.store.refusals import Withdrawn
from ifllm_hub.collect.store.store import RatingValues, now_ms
from ifllm_hub.collect.study.models import AnswerFailed, AnsweringModel, streamed_together
from ifllm_hub.collect.study.state import (
    MAX_QUERY,
    MAX_SUMMARY,
    QUESTIONNAIRE,
    SCALE,
    DisplayedAnswer,
    NotYet,
    Participant,
    Protocol,
    Turn,
    tidy,
)
from ifllm_hub.dataset.schema import BULLETS
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import MODES, SIDES, Message, Side

# A participant's code. It is their id in the store, in a namespace of its own: knowing the id that an integrator gave
# somebody is not enough to delete their data here.
_CODE = re.compile(r"study-[0-9a-f]{32}")


class Study:
    """A study over a collector's store.

    Args:
        models: the models that answer; two are drawn for a conversation, or a single one is asked twice.
        consent: version of the consent text.
        rng: draws modes, models, sides and bullet points.
        clock: seconds that never go back.

    Raises:
        IfllmError: there is no model, or the collector does not know this version of the consent text.
    """

    def __init__(
        self,
        collector: Collector,
        models: Sequence[AnsweringModel],
        protocol: Protocol,
        consent: str,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not models:
            raise IfllmError("A study needs at least one model (--model).")
        collector.check_consent(consent)
        self.collector, self.protocol, self.consent = collector, protocol, consent
        self._models, self._rng, self._clock = tuple(models), rng or random.SystemRandom(), clock
        limits = collector.settings
        self._people, self._addresses = Buckets(limits.person_ask_rate), Buckets(limits.address_ask_rate)
        self._answers_at_once, self._answering = limits.answers_at_once, 0

    def begin(self) -> Participant:
        """A new participant, who has opened the page; nothing is stored."""
        return Participant(f"study-{uuid.uuid4().hex}")

    async def agree(self, participant: Participant, address: str, camera: bool = False) -> None:
        """Store the consent, with its version and date.

        Args:
            address: of their network, for its rate limit; it is not stored.
            camera: whether they agree to use their camera, too, which has a version of its own.

        Raises:
            NotYet: they have already agreed or withdrawn, or too many requests come from this address.
        """
        self._must_be(participant, "new")
        _take(self._addresses, address)
        person, now = self._person(participant), now_ms()
        participant.camera = camera
        await asyncio.wrap_future(self.collector.store.agree(person, self.consent_of(participant), now))
        participant.token, participant.state = self.collector.person_token(person, now), "agreed"

    def consent_of(self, participant: Participant) -> str:
        """Version of the text that a participant agrees to."""
        return with_camera(self.consent) if participant.camera else self.consent

    async def describe(self, participant: Participant, answers: Mapping[str, str | None]) -> None:
        """Store answers to `QUESTIONNAIRE`; None means not answered.

        Raises:
            NotYet: they have not agreed.
            IfllmError: an answer is not one of the bins.
        """
        self._must_be(participant, "agreed")
        given = {name: value for name, value in answers.items() if value is not None}
        for name, value in given.items():
            if value not in QUESTIONNAIRE.get(name, ()):
                raise IfllmError(f"Questionnaire: choose one of what is offered for {name}.")
        await self._note(participant, "", given)

    async def start(self, participant: Participant, topic: str, knowledge: int | None = None) -> None:
        """Begin the conversation: draw its mode, its models and their sides.

        Args:
            topic: what it will be about.
            knowledge: of the topic, beforehand, 1 to 5.

        Raises:
            NotYet: they have not agreed, or have begun already.
        """
        self._must_be(participant, "agreed")
        _check_scale(knowledge)
        participant.conversation, participant.topic = uuid.uuid4().hex, topic
        fixed = self.protocol.mode
        participant.mode = self._rng.choice(MODES) if fixed is None else fixed
        sides: tuple[Side, ...] = SIDES if participant.mode == "pairwise" else ("left",)
        # Drawn in random order, so that the side is random too.
        two = len(self._models) > 1
        drawn = self._rng.sample(self._models, len(sides)) if two else [*self._models] * len(sides)
        participant.models = dict(zip(sides, drawn, strict=True))
        before = {} if knowledge is None else {"knowledge_before": str(knowledge)}
        await self._note(participant, participant.conversation, {"topic": topic, **before})
        participant.started, participant.state = self._clock(), "chatting"

    async def ask(self, participant: Participant, query: str, address: str) -> AsyncGenerator[Turn]:
        """Ask the models: yields the turn before its answers, while they grow, and finally with `done`.

        Answers are registered once each has begun, so that reading is recorded while they stream, and again when
        complete.

        Args:
            address: as for `agree`.

        Raises:
            NotYet: it is not their turn (no consent, an answer still streams, or the last one is not rated), or there
                are too many questions from them, from their address, or at the same time.
            AnswerFailed: a model gave no answer. Nothing of the turn is stored.
            Withdrawn: they withdrew in the meantime, from another page.
        """
        self._must_be(participant, "chatting")
        query = query.replace("\0", "").strip()
        if participant.asking:
            raise NotYet("Please wait until the answers are complete.")
        if not query:
            raise NotYet("Please type a question first.")
        if len(query) > MAX_QUERY:
            raise NotYet(f"Please ask in at most {MAX_QUERY:,} characters; these are {len(query):,}.")
        if participant.turns and not participant.turns[-1].rated:
            raise NotYet("Please rate the answers above before you ask the next question.")
        answers = len(participant.models)
        if self._answering + answers > self._answers_at_once:
            raise NotYet("Many people are asking at this moment. Please ask again in a few seconds.")
        _take(self._people, participant.code)
        _take(self._addresses, address)
        bullets = self._rng.random() < self.protocol.bullet_share
        question_id = f"{participant.conversation}.{len(participant.turns) + 1}"
        shown = {side: DisplayedAnswer(model, question_id) for side, model in participant.models.items()}
        turn = Turn(query, bullets, now_ms(), shown)
        participant.asking = True
        self._answering += answers
        try:
            yield turn
            async with aclosing(self._stream(participant, turn)) as growing:
                async for _ in growing:
                    yield turn
        finally:
            participant.asking = False
            self._answering -= answers
        yield turn

    async def _stream(self, participant: Participant, turn: Turn) -> AsyncGenerator[None]:
        """Let the turn's answers grow; it becomes one of the participant's turns once each has begun."""
        raw = dict.fromkeys(turn.answers, "")
        streams = {
            side: shown.model.stream(_messages(participant.turns, side, turn), self.protocol.max_tokens)
            for side, shown in turn.answers.items()
        }
        async with aclosing(streamed_together(streams)) as pieces:
            async for side, piece in pieces:
                if isinstance(piece, AnswerFailed):
                    turn.broken = True
                    if not turn.answers[side].text:
                        raise piece
                    continue
                raw[side] += piece
                turn.answers[side].text = tidy(raw[side])
                begun = all(shown.text for shown in turn.answers.values())
                if begun and turn not in participant.turns:
                    await self._register(participant, turn)
                    participant.turns.append(turn)
                yield
        if turn not in participant.turns:
            raise AnswerFailed("A model gave an empty answer. Please ask again, or something else.")
        await self._register(participant, turn)
        turn.done = True

    async def rate(
        self,
        participant: Participant,
        ratings: Mapping[Side, int | None],
        preference: Side | None = None,
        better_than_previous: bool | None = None,
    ) -> None:
        """Store the participant's ratings of the last turn; they may change until the next question.

        Raises:
            NotYet: there is nothing to rate, or something is missing.
            IfllmError: a rating is not 1 to 5.
        """
        self._must_be(participant, "chatting")
        if not participant.turns or not participant.turns[-1].done:
            raise NotYet("There is no complete answer to rate yet.")
        turn = participant.turns[-1]
        pairwise = participant.mode == "pairwise"
        for side in turn.answers:
            if ratings.get(side) is None:
                raise NotYet("Please rate each answer from 1 to 5.")
            _check_scale(ratings[side])
        if pairwise and preference not in SIDES:
            raise NotYet("Please say which of the two answers is better.")
        compares = not pairwise and len(participant.turns) > 1
        if compares and better_than_previous is None:
            raise NotYet("Please say whether this answer is better than the one before.")
        for side, shown in turn.answers.items():
            said = RatingValues(
                ratings[side],
                preference if pairwise and side == "left" else None,
                better_than_previous if compares else None,
            )
            rated = self.collector.store.rate(
                shown.response_id, self._person(participant), said, turn.asked_at, now_ms()
            )
            await asyncio.wrap_future(rated)
        turn.rated = True

    def missing(self, participant: Participant) -> tuple[int, float]:
        """How many more questions and seconds are needed before the conversation can be finished."""
        spent = 0 if participant.started is None else self._clock() - participant.started
        return (
            max(0, self.protocol.least_queries - len(participant.turns)),
            max(0.0, self.protocol.least_seconds - spent),
        )

    def may_finish(self, participant: Participant) -> None:
        """Raise if the conversation cannot be finished yet.

        Raises:
            NotYet: it says what is missing.
        """
        self._must_be(participant, "chatting")
        queries, seconds = self.missing(participant)
        if queries or seconds:
            questions = f"{queries} more question{'s' * (queries != 1)}" if queries else ""
            minutes = f"{int(seconds // 60)}:{int(seconds % 60):02d} more minutes" if seconds else ""
            raise NotYet(f"Not finished yet: {' and '.join(filter(None, (questions, minutes)))} to go.")
        if not participant.turns[-1].rated:
            raise NotYet("Please rate the last answers first.")

    async def finish(self, participant: Participant, summary: str = "", knowledge: int | None = None) -> None:
        """End the conversation.

        Args:
            summary: what was learned; some protocols ask for it.
            knowledge: of the topic, afterwards, 1 to 5.

        Raises:
            NotYet: something is missing.
        """
        self.may_finish(participant)
        _check_scale(knowledge)
        summary = summary.replace("\0", "").strip()
        if self.protocol.summary and not summary:
            raise NotYet("Please say in one or two sentences what you learned.")
        if len(summary) > MAX_SUMMARY:
            raise NotYet(f"Please use at most {MAX_SUMMARY:,} characters; these are {len(summary):,}.")
        after = {} if knowledge is None else {"knowledge_after": str(knowledge)}
        await self._note(participant, participant.conversation, {"summary": summary, "finished": "yes", **after})
        participant.state = "finished"

    async def withdraw(self, participant: Participant | None, code: str) -> None:
        """Delete everything stored under the code in somebody's page, in exported folders too; their study is over.

        Args:
            participant: whose code it is; None if the server was restarted and no longer knows.

        Raises:
            IfllmError: it cannot be a code.
        """
        await self.delete(code)
        if participant is not None:
            participant.state = "withdrawn"

    async def delete(self, code: str) -> None:
        """Delete by the code that a participant was given, without saying whether there was anything.

        Raises:
            IfllmError: it cannot be a code.
        """
        if not _CODE.fullmatch(code := code.strip().lower()):
            raise IfllmError("This is not a code: a code is study- followed by 32 digits and letters from a to f.")
        await asyncio.to_thread(delete_person, self.collector.store, self.collector.pseudonyms, code)

    async def _register(self, participant: Participant, turn: Turn) -> None:
        for side, shown in turn.answers.items():
            asked = wire.Registration(
                person=participant.code,
                question_id=shown.question_id,
                side=side,
                text=shown.text,
                query=turn.query,
                conversation=participant.conversation,
                model=shown.model.name,
                bullet_points=turn.bullet_points,
            )
            registered = await self.collector.register(asked)
            shown.token, shown.response_id = registered["token"], registered["response_id"]

    async def _note(self, participant: Participant, conversation: str, values: Mapping[str, str]) -> None:
        noted = self.collector.store.note(self._person(participant), conversation, values, now_ms())
        await asyncio.wrap_future(noted)

    def _person(self, participant: Participant) -> str:
        return self.collector.pseudonyms.person(participant.code)

    def _must_be(self, participant: Participant, state: str) -> None:
        if participant.state == "withdrawn":
            raise Withdrawn
        if participant.state != state:
            raise NotYet(f"This is not possible now: it needs the state {state!r} and this is {participant.state!r}.")


def with_camera(consent: str) -> str:
    """Version of a consent text for those who agree to use their camera, too."""
    return f"{consent} with camera"


def _messages(turns: Sequence[Turn], side: Side, turn: Turn) -> list[Message]:
    """Each model sees its own answers only, and the queries as they were sent."""
    messages: list[Message] = []
    for past in turns:
        messages += [
            {"role": "user", "content": past.query + BULLETS * past.bullet_points},
            {"role": "assistant", "content": past.answers[side].text},
        ]
    return [*messages, {"role": "user", "content": turn.query + BULLETS * turn.bullet_points}]


def _take(buckets: Buckets, key: str) -> None:
    try:
        buckets.take(key)
    except Problem as problem:
        wait = f"{problem.retry_after} second{'s' * (problem.retry_after != 1)}"
        raise NotYet(f"There were many requests in a short time. Please try again in {wait}.") from None


def _check_scale(value: int | None) -> None:
    if value is not None and value not in SCALE:
        raise IfllmError("Choose a number from 1 to 5.")
