"""What the collector does at each of its endpoints."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from ifllm_hub import __version__
from ifllm_hub.collect import wire
from ifllm_hub.collect.export.upkeep import erase_exports
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.server.limits import Buckets, read_body
from ifllm_hub.collect.server.metrics import CONTENT_TYPE, Metrics
from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.settings import PUBLISHED_FOLDER, Secrets, Settings
from ifllm_hub.collect.store.intake import StoredBatch
from ifllm_hub.collect.store.refusals import Conflict, OtherArm, Unknown, Withdrawn
from ifllm_hub.collect.store.store import Answer, RatingValues, Store, now_ms
from ifllm_hub.collect.tokens import BadToken, ExpiredToken, PersonToken, ResponseToken, Signer
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from ifllm_hub.collect.export.publication import ScheduledPublication
    from ifllm_hub.collect.live.score import Scorer

_log = logging.getLogger(__name__)
# How many people may have a score pending at once.
_SCORES_WAITING = 64
# The most origins that are logged, since anybody can send any.
_REFUSED = 16
# How long a write may wait before the store counts as unavailable; monitors do not wait longer.
_HEALTH_SECONDS = 2
# Differences up to this between the clocks of a page and the server are ignored.
_CLOCK_MS = 60_000
_STATIC = Path(__file__).parents[1] / "static"


class UnknownConsent(IfllmError):
    """A version of the consent text that the settings do not name."""


# The problem that each error becomes.
REFUSALS: dict[type[Exception], str] = {
    Withdrawn: "withdrawn",
    Conflict: "conflict",
    OtherArm: "other_arm",
    Unknown: "unknown_answer",
    UnknownConsent: "unknown_consent",
    BadToken: "bad_token",
    ExpiredToken: "expired_token",
}


class Collector:
    """A store, its keys and limits, and the endpoints that work on them.

    Raises:
        IfllmError: the secrets or the store cannot be read or created, or the dataset repo cannot be written.
    """

    def __init__(self, settings: Settings):
        secrets = Secrets.load(settings.folder)
        self.settings, self.store, self.metrics = settings, Store(settings.url), Metrics()
        self.signer, self.pseudonyms = Signer(secrets.signing), Pseudonyms(secrets.pseudonym)
        self.addresses = Buckets(settings.address_rate)
        self._api_key = secrets.api.encode()
        self._sessions, self._people = Buckets(settings.session_rate), Buckets(settings.person_rate)
        self._warned = False
        self._refused: set[str] = set()
        # One thread for all scores, so that nothing else waits for them; and the people whose scores are pending.
        self._scores, self._scoring = ThreadPoolExecutor(1, "ifllm-collect-score"), set[str]()
        self._publication = self._scheduled()

    def close(self) -> None:
        """Publish once more, if there is a dataset repo, and close the store."""
        if self._publication is not None:
            self._publication.finish()
        self._scores.shutdown(cancel_futures=True)
        self.store.close()

    def has_key(self, request: Request) -> bool:
        """Whether the request is from an integrator's server, or its monitoring, which can send only bearer tokens."""
        key = request.headers.get("x-ifllm-key") or _bearer(request)
        return compare_digest(key.encode(), self._api_key)

    def check_consent(self, version: str) -> None:
        """Check that a version of the consent text is one of the settings'.

        Raises:
            UnknownConsent: it is not.
        """
        if version not in self.settings.consents:
            raise UnknownConsent(f"{version}: not a version of the consent text that the collector knows (--consent).")

    def note_refusal(self, origin: str) -> None:
        """Tell the operator, once per origin, that its pages are refused: nobody else would notice."""
        if origin in self._refused or len(self._refused) >= _REFUSED:
            return
        self._refused.add(origin)
        _log.warning(
            "pages of %.200r are refused and record nothing: to allow them, name it as an origin (--origin)", origin
        )

    async def batches(self, request: Request) -> Response:
        """Store what a page recorded."""
        body = await self._body(request)
        batch = wire.parse(wire.Batch, body)
        now = now_ms()
        tokens = [self.signer.response(token, now) for token in batch.responses]
        if len({token.person for token in tokens}) > 1:
            raise Problem("mixed_people")
        person = tokens[0].person
        self._people.take(person)
        self._sessions.take(batch.session)
        issued_at = min(token.issued_at for token in tokens)
        if any(event[1] == "withdraw" for event in batch.events):
            await self._withdraw(person, issued_at)
            return JSONResponse({"accepted": True, "duplicate": False}, 202)
        self._check_reported_consent(batch.consent)
        stored = {
            "origin": batch.origin,
            "clock_off": _clock_off(batch.moments, issued_at, now),
            "viewport": batch.viewport,
            "responses": [(token.response_id, token.text_sha256, token.text_length) for token in tokens],
            "ticks": [*batch.ticks, *batch.gaze],
            "views": batch.views,
            "calibration": batch.calibration,
            "events": [event for event in batch.events if event[1] not in wire.UNUSED],
        }
        received = StoredBatch(
            session=batch.session,
            sequence=batch.sequence,
            person=person,
            consent=batch.consent,
            body=json.dumps(stored, separators=(",", ":")).encode(),
            sha256=hashlib.sha256(body).hexdigest(),
            issued_at=issued_at,
        )
        duplicate = await asyncio.wrap_future(self.store.accept(received, now, self.settings.person_day_bytes))
        if duplicate:
            self.metrics.duplicate_batches.inc()
        else:
            self.metrics.accepted_batches.inc()
            self.metrics.accepted_ticks.inc(len(batch.ticks) + len(batch.gaze))
        return JSONResponse({"accepted": True, "duplicate": duplicate}, 202)

    async def responses(self, request: Request) -> Response:
        """Register an answer, or its new text, for a server that has the key; gives the tokens for the page."""
        if not self.has_key(request):
            raise Problem("bad_key")
        asked = wire.parse(wire.Registration, await self._body(request, wire.MAX_REGISTRATION))
        return JSONResponse(await self.register(asked))

    async def people(self, request: Request) -> Response:
        """Give a person's token to a server that has the key, before there is an answer; stores nothing."""
        if not self.has_key(request):
            raise Problem("bad_key")
        asked, now = wire.parse(wire.Reader, await self._body(request)), now_ms()
        token = self.person_token(self.pseudonyms.person(asked.person), now)
        return JSONResponse({"person_token": token, "expires_at": now + 1_000 * self.settings.person_token_seconds})

    async def register(self, asked: wire.Registration) -> dict[str, Any]:
        """Register an answer from within the same process.

        Returns:
            `token` of the answer, `person_token`, `response_id`, and `expires_at` of the token (UTC ms).

        Raises:
            UnknownConsent: `asked.consent` is not one of the settings'.
            Withdrawn: the person has withdrawn, and `asked.consent` is None.
            OtherArm: an answer to this question was registered in another arm.
        """
        if asked.consent is not None:
            self.check_consent(asked.consent)
        person = self.pseudonyms.person(asked.person)
        answer = Answer(
            response_id=self.pseudonyms.response(person, asked.question_id, asked.side),
            person=person,
            **asked.model_dump(exclude={"person", "consent"}),
        )
        now = now_ms()
        await asyncio.wrap_future(self.store.register(answer, asked.consent, now))
        token = ResponseToken(
            response_id=answer.response_id,
            question_id=answer.question_id,
            side=asked.side,
            text_sha256=hashlib.sha256(answer.text.encode()).hexdigest(),
            text_length=len(answer.text),
            person=person,
            issued_at=now,
            expires_at=now + 1_000 * self.settings.token_seconds,
        )
        return {
            "token": self.signer.sign(token),
            "person_token": self.person_token(person, now),
            "response_id": answer.response_id,
            "expires_at": token.expires_at,
        }

    def person_token(self, person: str, now: int) -> str:
        """The token by which a person's page deletes, for a page that needs it before there is an answer.

        Args:
            now: UTC ms.
        """
        return self.signer.sign(PersonToken(person, now, now + 1_000 * self.settings.person_token_seconds))

    async def ratings(self, request: Request) -> Response:
        """Store a person's rating of an answer."""
        said = wire.parse(wire.Rating, await self._body(request))
        now = now_ms()
        token = self.signer.response(said.token, now)
        self._people.take(token.person)
        words = RatingValues(said.rating, said.preference, said.better_than_previous)
        await asyncio.wrap_future(self.store.rate(token.response_id, token.person, words, token.issued_at, now))
        return JSONResponse({"accepted": True}, 202)

    async def score(self, request: Request) -> Response:
        """Score the reading of a question; see `Scorer.score`."""
        asked = wire.parse(wire.Asked, await self._body(request))
        token = self.signer.response(asked.token, now_ms())
        person = token.person
        self._people.take(person)
        if person in self._scoring or len(self._scoring) >= _SCORES_WAITING:
            raise Problem("scoring", retry_after=1)
        scored = self._scores.submit(lambda: self._scorer.score(token))
        self._scoring.add(person)
        # When it is done, not when nobody waits for it any more.
        scored.add_done_callback(lambda _: self._scoring.discard(person))
        return JSONResponse(await asyncio.wrap_future(scored))

    async def forget(self, request: Request) -> Response:
        """Delete everything about the person whose token the request bears, in the store and in exported folders."""
        token = self.signer.person(_bearer(request), now_ms())
        await self._withdraw(token.person, token.issued_at)
        return Response(status_code=204)

    async def check(self, request: Request) -> Response:
        """Say why a page's tokens and consent would be refused, if they would; stores nothing."""
        asked = wire.parse(wire.Check, await self._body(request))
        now = now_ms()
        responses = [await self._refusal(self.signer.response, token, now) for token in asked.responses]
        person = None if asked.person is None else await self._refusal(self.signer.person, asked.person, now)
        known = asked.consent is None or asked.consent in self.settings.consents
        consent = None if known else Problem("unknown_consent").error
        return JSONResponse(
            {"version": __version__, "now": now, "consent": consent, "person": person, "responses": responses}
        )

    async def health(self) -> Response:
        """Whether the store can be written, now."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await asyncio.wrap_future(self.store.check())
        except TimeoutError:
            raise Problem("unavailable", retry_after=5) from None
        return JSONResponse({"status": "ok", "version": __version__})

    async def metrics_page(self, request: Request) -> Response:
        """Metrics in Prometheus' text format, for whoever has the key; no personal data."""
        if not self.has_key(request):
            raise Problem("bad_key")
        counts = await asyncio.to_thread(self.store.counts)
        return PlainTextResponse(self.metrics.text(counts), headers={"Content-Type": CONTENT_TYPE})

    async def script(self) -> Response:
        """The tracker."""
        return _script("tracker.js")

    async def diagnosis(self) -> Response:
        """The script that the tracker loads to find out what does not work."""
        return _script("diagnose.js")

    async def answers(self) -> Response:
        """The script for chat pages of other products."""
        return _script("answers.js")

    @cached_property
    def _scorer(self) -> "Scorer":
        """Loaded by the first request for a score, in the scores' thread: collecting alone needs no model."""
        from ifllm_hub.collect.live.score import Scorer

        return Scorer(self.store, self.pseudonyms)

    def _forget_features(self, person: str) -> None:
        if "_scorer" in vars(self):  # it was loaded
            self._scorer.forget(person)

    async def _refusal(
        self, read: Callable[[str, int], ResponseToken | PersonToken], text: str, now: int
    ) -> dict[str, str] | None:
        """Why a token is refused; None if it is not."""
        try:
            token = read(text, now)
            withdrawn_at = await asyncio.to_thread(self.store.withdrawn_at, token.person)
            if withdrawn_at is not None and token.issued_at <= withdrawn_at:
                raise Withdrawn
        except tuple(REFUSALS) as refusal:
            return Problem(REFUSALS[type(refusal)]).error
        return None

    async def _body(self, request: Request, limit: int | None = None) -> bytes:
        return await read_body(request, limit or self.settings.max_body, self.settings.body_seconds)

    def _check_reported_consent(self, version: str) -> None:
        """Like `check_consent`, but also tells the operator, once: the page cannot."""
        try:
            self.check_consent(version)
        except UnknownConsent:
            if not self._warned:
                known = ", ".join(self.settings.consents)
                _log.warning("a page reports under a version of the consent text other than %s: refused", known)
            self._warned = True
            raise

    async def _withdraw(self, person: str, issued_at: int) -> None:
        worker_id = self.pseudonyms.worker(person)
        await asyncio.wrap_future(self.store.withdraw(person, worker_id, now_ms(), issued_at))
        self.metrics.withdrawals.inc()
        self._scores.submit(self._forget_features, person)
        await asyncio.to_thread(erase_exports, self.store)
        if self._publication is not None:
            self._publication.trigger()

    def _scheduled(self) -> "ScheduledPublication | None":
        """Start publishing in the background; None if there is no dataset repo."""
        chosen = self.settings
        if chosen.dataset_repo is None:
            return None
        from ifllm_hub.collect.export.publication import ScheduledPublication

        folder = chosen.folder / PUBLISHED_FOLDER
        return ScheduledPublication(
            self.store,
            self.pseudonyms,
            folder,
            chosen.dataset_repo,
            chosen.publish_minutes,
            chosen.least_people,
            chosen.publish_shards,
        )


def _clock_off(moments: list[int], issued_at: int, now: int) -> int:
    """By how many ms, at least, a page's clock is ahead of (positive) or behind the server's; 0 within a minute.

    Events about an answer happen after its token was issued and before the batch arrives.
    """
    ahead, behind = max(moments, default=now) - now, max(moments, default=now) - issued_at
    return ahead if ahead > _CLOCK_MS else behind if behind < -_CLOCK_MS else 0


def _script(name: str) -> Response:
    return FileResponse(_STATIC / name, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


def _bearer(request: Request) -> str:
    """The token of `Authorization: Bearer TOKEN`; empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
