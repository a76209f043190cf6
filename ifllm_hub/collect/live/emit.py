"""Live scores, sent to where an integrator watches its answers: OpenTelemetry, Langfuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub import __version__
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import SIDES, Side

if TYPE_CHECKING:
    from langfuse import Langfuse
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

Label = Literal["preferred", "not_preferred", "longer_than_usual", "not_longer_than_usual", "abstain"]


@dataclass(frozen=True)
class Evaluation:
    """What the score of a question says about one of its answers.

    Attributes:
        label: what `value` means in a word.
        value: the probability (0-1) that this answer is preferred to the other; of a single one, the rank (0-1) of how
            long it held the reader among the reader's other answers; None: there is no score.
        reason: why there is none, in a word (docs/collector.md, "Live reward").
        name: of the evaluation; `ifllm.engagement` of a single answer.
    """

    label: Label
    value: float | None = None
    reason: str | None = None
    name: Literal["ifllm.preference", "ifllm.engagement"] = "ifllm.preference"

    @classmethod
    def of(cls, score: Mapping[str, Any], side: Side) -> "Evaluation":
        """Read what `POST /v1/score` answered.

        Raises:
            IfllmError: it is no score, or there is no such side.
        """
        if side not in SIDES:
            raise IfllmError(f"There is no side {side!r}: it is {' or '.join(SIDES)}, as the answer was registered.")
        match score:
            case {"abstain": True, "reason": str(reason)}:
                return cls("abstain", None, reason, "ifllm.engagement" if "engagement" in score else "ifllm.preference")
            case {"probability_left": float(left) | int(left)} if 0 <= left <= 1:
                value = float(left if side == "left" else 1 - left)
                return cls("preferred" if value > 0.5 else "not_preferred", value)
            case {"engagement": float(rank)} if 0 <= rank <= 1:
                label: Label = "longer_than_usual" if rank > 0.5 else "not_longer_than_usual"
                return cls(label, rank, name="ifllm.engagement")
        raise IfllmError(f"This is no score: {score!r}. Give what POST /v1/score answered with status 200.")


def emit(
    score: Mapping[str, Any],
    response_id: str,
    side: Side,
    *,
    trace_id: str | None = None,
    span_id: str | None = None,
    langfuse: "Langfuse | None" = None,
    logger_provider: "LoggerProvider | None" = None,
    name: str | None = None,
) -> None:
    """Send what a score says about one answer to OpenTelemetry and, if a client is given, to Langfuse.

    OpenTelemetry gets the event `gen_ai.evaluation.result` of its conventions for generative AI, through whatever
    exporters this process has; without any, nothing is sent. Langfuse gets a numeric score; a later one of the same
    `response_id` has the same id, by which Langfuse replaces the earlier. An abstention is never a number: it is the
    label `abstain` with the reason as its explanation, and in Langfuse a categorical score whose value is the reason.
    Both clients send in the background.

    Args:
        score: what `POST /v1/score` answered about the question: `probability_left`, `engagement`, or `abstain` and
            `reason`.
        response_id: of the completion, as the model's provider or the collector named it.
        side: of this answer. Of two, the value that is sent is the probability that this one is preferred.
        trace_id: 32 lowercase hexadecimal digits: the trace in which the answer was generated; Langfuse needs it.
            None: the current span is the event's parent.
        span_id: 16 lowercase hexadecimal digits: the span (in Langfuse, the observation) that generated it.
        langfuse: Langfuse's own client.
        logger_provider: instead of OpenTelemetry's global one.
        name: of the evaluation; None: what it is, `ifllm.preference` or, of a single answer, `ifllm.engagement`.

    Raises:
        IfllmError: it is no score, an id has another form or is missing, or the extra `otel` is not installed.
            Nothing is sent then.

    Example:
        >>> from opentelemetry.sdk._logs import LoggerProvider
        >>> from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
        >>> from ifllm_hub.collect.live.emit import emit
        >>> sent, provider = InMemoryLogRecordExporter(), LoggerProvider()
        >>> provider.add_log_record_processor(SimpleLogRecordProcessor(sent))
        >>> emit({"probability_left": 0.75}, "chatcmpl-1", "right", logger_provider=provider)
        >>> emit({"abstain": True, "reason": "touch"}, "chatcmpl-2", "left", logger_provider=provider)
        >>> for event in sent.get_finished_logs():
        ...     print(dict(event.log_record.attributes))  # doctest: +NORMALIZE_WHITESPACE
        {'gen_ai.evaluation.name': 'ifllm.preference', 'gen_ai.response.id': 'chatcmpl-1',
         'gen_ai.evaluation.score.label': 'not_preferred', 'gen_ai.evaluation.score.value': 0.25}
        {'gen_ai.evaluation.name': 'ifllm.preference', 'gen_ai.response.id': 'chatcmpl-2',
         'gen_ai.evaluation.score.label': 'abstain', 'gen_ai.evaluation.explanation': 'touch'}
    """
    evaluation = Evaluation.of(score, side)
    name = name or evaluation.name
    _check_id("trace_id", trace_id, 32)
    _check_id("span_id", span_id, 16)
    if trace_id is None and (span_id or langfuse):
        raise IfllmError("`span_id` and `langfuse` need `trace_id`: the trace in which the answer was generated.")
    try:
        from opentelemetry._logs import get_logger
    except ImportError as error:
        raise IfllmError("Emitting needs OpenTelemetry's API. Install it: pip install 'ifllm_hub[otel]'") from error
    attributes: dict[str, str | float] = {
        "gen_ai.evaluation.name": name,
        "gen_ai.response.id": response_id,
        "gen_ai.evaluation.score.label": evaluation.label,
    }
    if evaluation.value is not None:
        attributes["gen_ai.evaluation.score.value"] = evaluation.value
    if evaluation.reason is not None:
        attributes["gen_ai.evaluation.explanation"] = evaluation.reason
    get_logger("ifllm_hub", __version__, logger_provider).emit(
        timestamp=time_ns(),
        context=None if trace_id is None else _inside(trace_id, span_id),
        attributes=attributes,
        event_name="gen_ai.evaluation.result",
    )
    if langfuse is not None:
        number = {"value": evaluation.value, "data_type": "NUMERIC"}
        word = {"value": evaluation.reason, "data_type": "CATEGORICAL"}
        typed: dict[str, Any] = word if evaluation.value is None else number
        langfuse.create_score(
            **typed,
            name=name,
            comment=evaluation.label,
            trace_id=trace_id,
            observation_id=span_id,
            score_id=f"{name}-{response_id}",
        )


def _check_id(argument: str, value: str | None, digits: int) -> None:
    if value is not None and not (len(value) == digits and set(value) <= set("0123456789abcdef") and int(value, 16)):
        raise IfllmError(f"`{argument}` is {digits} lowercase hexadecimal digits, not all zero, and not {value!r}.")


def _inside(trace_id: str, span_id: str | None) -> "Context":
    """As in a span of which only the ids are kept: the reader is done long after the answer is."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    # Whether the trace was sampled is not known; a logger that leaves out what is not sampled would leave out all.
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return set_span_in_context(NonRecordingSpan(SpanContext(int(trace_id, 16), int(span_id or "0", 16), True, sampled)))
