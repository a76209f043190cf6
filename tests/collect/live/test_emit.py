"""Where scores go, by what arrives at an OTLP collector and at Langfuse's API, sent by the official clients."""

import logging
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.collect.live.emit import Evaluation, emit
from ifllm_hub.errors import IfllmError
from tests.collect.client import reading
from tests.collect.conftest import Site

pytest.importorskip("langfuse")
exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http._log_exporter")

from langfuse import Langfuse  # noqa: E402
from opentelemetry.sdk._logs import LoggerProvider  # noqa: E402
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.trace import format_span_id, format_trace_id  # noqa: E402

from tests.collect.live.observed import PUBLIC_KEY, SECRET_KEY, Observer, attributes  # noqa: E402

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SCORE, ABSTAINED = {"probability_left": 0.75}, {"abstain": True, "reason": "touch"}


@pytest.fixture
def observer() -> Iterator[Observer]:
    observer = Observer()
    yield observer
    observer.close()


@pytest.fixture
def provider(observer: Observer) -> Iterator[LoggerProvider]:
    """An integrator's, whose exporter sends at once."""
    provider = LoggerProvider(shutdown_on_exit=False)
    to = exporter.OTLPLogExporter(f"{observer.url}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(to))
    yield provider
    provider.shutdown()


@pytest.fixture
def langfuse(observer: Observer) -> Iterator[Langfuse]:
    own = TracerProvider(shutdown_on_exit=False)
    client = Langfuse(public_key=PUBLIC_KEY, secret_key=SECRET_KEY, base_url=observer.url, tracer_provider=own)
    yield client
    client.shutdown()
    # A client is kept by its key, and the next test has another address.
    client._resources.reset()


@given(st.floats(0, 1))
def test_what_one_answer_has_the_other_has_not(probability: float) -> None:
    left, right = (Evaluation.of({"probability_left": probability}, side) for side in ("left", "right"))
    assert left.value == probability
    assert left.value + right.value == pytest.approx(1, abs=1e-15)
    assert [answer.label for answer in (left, right)].count("preferred") == (right.value != left.value)


@given(st.sampled_from(["left", "right"]), st.text())
def test_an_abstention_has_no_number(side: Any, reason: str) -> None:
    assert Evaluation.of({"abstain": True, "reason": reason}, side) == Evaluation("abstain", None, reason)


def test_the_event_of_the_conventions(observer: Observer, provider: LoggerProvider) -> None:
    emit(SCORE, "chatcmpl-1", "left", trace_id=TRACE, span_id=SPAN, logger_provider=provider)
    emit(SCORE, "chatcmpl-2", "right", trace_id=TRACE, logger_provider=provider, name="mine")
    emit(ABSTAINED, "chatcmpl-3", "left", logger_provider=provider)
    first, second, third = observer.events
    assert attributes(first) == {
        "gen_ai.evaluation.name": "ifllm.preference",
        "gen_ai.evaluation.score.value": 0.75,
        "gen_ai.evaluation.score.label": "preferred",
        "gen_ai.response.id": "chatcmpl-1",
    }
    assert attributes(second) == {
        "gen_ai.evaluation.name": "mine",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "not_preferred",
        "gen_ai.response.id": "chatcmpl-2",
    }
    assert attributes(third) == {
        "gen_ai.evaluation.name": "ifllm.preference",
        "gen_ai.evaluation.score.label": "abstain",
        "gen_ai.evaluation.explanation": "touch",
        "gen_ai.response.id": "chatcmpl-3",
    }
    assert {(event["eventName"], event["scope"]) for event in observer.events} == {
        ("gen_ai.evaluation.result", "ifllm_hub")
    }
    assert not observer.scores + observer.others


def test_a_single_answer_is_no_preference(observer: Observer, provider: LoggerProvider, site: Site) -> None:
    tokens = [site.register("ada", f"q{n}")["token"] for n in range(7)]
    for n, token in enumerate(tokens[1:]):
        site.send([token], sequence=n, ticks=reading(2 + n, 0))
    scores = [site.post("score", {"token": tokens[n]}).json() for n in (0, 1, 6)]
    for score in scores:
        emit(score, "r", "left", logger_provider=provider)
    sent = [attributes(event) for event in observer.events]
    assert {event["gen_ai.evaluation.name"] for event in sent} == {"ifllm.engagement"}
    labels = [event["gen_ai.evaluation.score.label"] for event in sent]
    assert labels == ["abstain", "not_longer_than_usual", "longer_than_usual"]
    assert sent[0]["gen_ai.evaluation.explanation"] == "not_read"
    assert "gen_ai.evaluation.score.value" not in sent[0]
    assert [event["gen_ai.evaluation.score.value"] for event in sent[1:]] == [one["engagement"] for one in scores[1:]]


def test_the_span_that_it_belongs_to(observer: Observer, provider: LoggerProvider) -> None:
    """The one that is named, else the current one, else none."""
    emit(SCORE, "r", "left", logger_provider=provider)
    with TracerProvider(shutdown_on_exit=False).get_tracer("chat").start_as_current_span("chat") as span:
        emit(SCORE, "r", "left", logger_provider=provider)
        emit(SCORE, "r", "left", trace_id=TRACE, span_id=SPAN, logger_provider=provider)
        emit(SCORE, "r", "left", trace_id=TRACE, logger_provider=provider)
    context = span.get_span_context()
    current = format_trace_id(context.trace_id), format_span_id(context.span_id)
    parents = [(ids(event.get("traceId", "")), ids(event.get("spanId", ""))) for event in observer.events]
    assert parents == [("", ""), current, (TRACE, SPAN), (TRACE, "")]


def ids(base64: str) -> str:
    """As hexadecimal digits, what JSON has of bytes."""
    return b64decode(base64).hex()


def test_scores_of_langfuse(
    observer: Observer, provider: LoggerProvider, langfuse: Langfuse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    to: Any = {"trace_id": TRACE, "logger_provider": provider, "langfuse": langfuse}
    emit(SCORE, "r1", "right", span_id=SPAN, **to)
    emit(ABSTAINED, "r2", "left", **to)
    emit(SCORE, "r2", "left", **to)
    langfuse.flush()
    number, abstained, later = observer.scores
    common = {"name": "ifllm.preference", "traceId": TRACE}
    assert number.items() >= {**common, "observationId": SPAN, "value": 0.25, "dataType": "NUMERIC"}.items()
    assert abstained.items() >= {**common, "value": "touch", "dataType": "CATEGORICAL", "comment": "abstain"}.items()
    assert later.items() >= {**common, "value": 0.75, "dataType": "NUMERIC", "comment": "preferred"}.items()
    assert "observationId" not in abstained
    assert later["id"] == abstained["id"] != number["id"]  # by which Langfuse replaces what came earlier
    assert len(observer.events) == 3
    assert not observer.others
    assert not caplog.records


def test_what_the_collector_answers(observer: Observer, provider: LoggerProvider, site: Site) -> None:
    tokens = site.pair("ada", "q1", left="l" * 400, right="r" * 300)
    site.send(tokens, ticks=reading(10, 0) + reading(4, 1, start=20_000, length=300))
    unread, _ = site.pair("ada", "q2")
    score, abstained = (site.post("score", {"token": token}).json() for token in (tokens[0], unread))
    emit(score, "r1", "left", logger_provider=provider)
    emit(abstained, "r2", "left", logger_provider=provider)
    first, second = map(attributes, observer.events)
    assert first["gen_ai.evaluation.score.value"] == score["probability_left"]
    assert second["gen_ai.evaluation.explanation"] == "not_read"


@pytest.mark.parametrize(
    ("score", "more", "said"),
    [
        ({"error": {"code": "bad_token"}}, {}, r"This is no score: .*bad_token.*with status 200"),
        ({"abstain": True}, {}, "This is no score"),
        ({"probability_left": float("nan")}, {}, "This is no score"),
        ({"probability_left": 1.5}, {}, "This is no score"),
        ({"probability_left": "0.7"}, {}, "This is no score"),
        ({"engagement": 1.5}, {}, "This is no score"),
        ({"engagement": None}, {}, "This is no score"),
        (SCORE, {"side": "top"}, "no side 'top': it is left or right"),
        (SCORE, {"trace_id": "0" * 32}, "`trace_id` is 32 lowercase hexadecimal digits"),
        (SCORE, {"trace_id": TRACE.upper()}, "`trace_id` is 32"),
        (SCORE, {"trace_id": "conversation-7"}, "not 'conversation-7'"),
        (SCORE, {"trace_id": TRACE, "span_id": TRACE}, "`span_id` is 16 lowercase hexadecimal digits"),
        (SCORE, {"span_id": SPAN}, "need `trace_id`"),
        (SCORE, {"trace_id": None, "langfuse": True}, "need `trace_id`"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_sent(
    score: Any, more: dict[str, Any], said: str, observer: Observer, provider: LoggerProvider, langfuse: Langfuse
) -> None:
    if more.get("langfuse"):
        more = {**more, "langfuse": langfuse}
    with pytest.raises(IfllmError, match=said):
        emit(score, "r", **{"side": "left", "logger_provider": provider, **more})
    langfuse.flush()
    assert not observer.events + observer.scores + observer.others


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry._logs", None)
    with pytest.raises(IfllmError, match=r"Install it: pip install 'ifllm_hub\[otel\]'$"):
        emit(SCORE, "r", "left")


def test_an_import_loads_no_client() -> None:
    code = "import sys, ifllm_hub.collect.live.emit; print({'opentelemetry', 'langfuse', 'torch'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
