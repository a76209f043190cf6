"""What comes in over the wire, as strict models: no unknown fields, no coercion, every number within limits.

Everything a browser sends has these types: no field takes free text. Texts come from the integrator's server.
"""

import re
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ifllm_hub.collect.tokens import MAX_LENGTH
from ifllm_hub.terms import Side

MAX_RESPONSES, MAX_TICKS, MAX_VIEWS, MAX_EVENTS = 16, 512, 512, 256
# Char indices of the dataset are int16.
MAX_TEXT = 32_767
_MAX_INT = 2**31 - 1
# How much of a query is kept, code points: people paste documents, and no position in them is recorded.
MAX_QUERY = 100_000
# The largest body of a registration, bytes: JSON may escape a code point in 12, such as "\ud83d\ude00"; a text may have
# `MAX_TEXT` code points, a query `MAX_QUERY` and more that are cut. The key is checked before the body is read.
MAX_REGISTRATION = 4 * 1024 * 1024
# A browser's numbers are exact up to here. Clocks may be wrong, and a tab may be open for months.
_MAX_MS = 2**53 - 1

Millis = Annotated[int, Field(ge=0, le=_MAX_MS)]
Pixels = Annotated[int, Field(ge=-32_768, le=32_767)]
Index = Annotated[int, Field(ge=0, lt=MAX_RESPONSES)]
# -1: on no character. -2: the page does not show the registered text, or did not know yet whether it does.
OTHER_TEXT = -2
CharIndex = Annotated[int, Field(ge=OTHER_TEXT, le=MAX_TEXT)]
# Milliseconds, answer, x, y, code point under it, and the pointer: 0 mouse, 1 pen, 2 touch; 3 gaze.
Tick = tuple[Millis, Index, Pixels, Pixels, CharIndex, Annotated[int, Field(ge=0, le=2)]]
# 3: the face is where the tracker can see it; 4: it is not.
GazePoint = tuple[Millis, Index, Pixels, Pixels, CharIndex, Literal[3, 4]]
# Milliseconds, answer, the first and last character on the screen (-1: none), the visible share of its box in
# thousandths (0: it left the screen), and the top and bottom of the visible part.
View = tuple[Millis, Index, CharIndex, CharIndex, Annotated[int, Field(ge=0, le=1_000)], Pixels, Pixels]
EventName = Literal[
    "stream_start",
    "stream_end",
    "shown",
    "leave",
    "first_key",
    "copy",
    "thumb",
    "vote",
    "regenerate",
    "consent",
    "withdraw",
    "dropped",
]
# What earlier trackers send as well, of pages that were open before the server was renewed: taken, and not stored.
Unused = Literal["hidden", "submit", "scroll", "resize", "visibility"]
UNUSED = frozenset(get_args(Unused))
Event = tuple[
    Millis,
    EventName | Unused,
    Annotated[int, Field(ge=-1, lt=MAX_RESPONSES)],
    Annotated[int, Field(ge=-_MAX_INT, le=_MAX_INT)] | None,
]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,980}\.[A-Za-z0-9_-]{43}$", max_length=MAX_LENGTH)]
# Compared with the versions of the settings, so any printable text will do.
VERSION = r"^[^\x00-\x1f\x7f]{1,64}$"
Version = Annotated[str, StringConstraints(pattern=VERSION)]
_ARM = r"^[^\x00-\x1f\x7f]{1,64}$"
# ASCII, as in a token. Random ids may begin with "_" or "-".
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_@-][A-Za-z0-9_@.:/+=~-]{0,127}$")]
# Hashed before it is stored, so any printable text will do.
Person = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]
# PostgreSQL cannot store NUL in a text.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=MAX_TEXT)]
# Cut, not refused: its answer can be read whatever was asked.
Query = Annotated[str, AfterValidator(lambda query: query[:MAX_QUERY].replace("\x00", "\ufffd"))]
Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Batch(_Strict):
    """What a page recorded since the last batch; times are ms since `origin`, its `performance.timeOrigin`.

    Attributes:
        calibration: of the gaze tracker: its accuracy in percent, as the study computed it, and its median error, CSS
            px; None before there is one.
    """

    v: Literal[1]
    session: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    sequence: Annotated[int, Field(ge=0, le=_MAX_INT)]
    consent: Version
    origin: Annotated[int, Field(ge=-_MAX_MS, le=_MAX_MS)]
    viewport: tuple[
        Annotated[int, Field(ge=1, le=32_767)],
        Annotated[int, Field(ge=1, le=32_767)],
        Annotated[float, Field(gt=0, le=32, allow_inf_nan=False)],
    ]
    responses: Annotated[list[Token], Field(max_length=MAX_RESPONSES)]
    ticks: Annotated[list[Tick], Field(max_length=MAX_TICKS)]
    gaze: Annotated[list[GazePoint], Field(max_length=MAX_TICKS)] = []
    views: Annotated[list[View], Field(max_length=MAX_VIEWS)] = []
    calibration: tuple[Annotated[int, Field(ge=0, le=100)], Annotated[int, Field(ge=0, le=32_767)]] | None = None
    events: Annotated[list[Event], Field(max_length=MAX_EVENTS)]

    @model_validator(mode="after")
    def _names_what_it_is_about(self) -> Self:
        known = len(self.responses)
        if not known:
            raise ValueError("no answer is named")
        named = (row[1] for rows in (self.ticks, self.gaze, self.views) for row in rows)
        if any(index >= known for index in named) or any(event[2] >= known for event in self.events):
            raise ValueError("an index points at no answer")
        return self

    @property
    def moments(self) -> list[int]:
        """The times of everything in the batch by the page's clock, UTC ms."""
        recorded = (self.ticks, self.gaze, self.views, self.events)
        return [self.origin + row[0] for rows in recorded for row in rows]


class Registration(_Strict):
    """An answer, from the server that shows it; sent again with the final text after streaming.

    Attributes:
        arm: of an experiment, in which the person was when the question was asked.
        propensity: the probability with which they were in it.
    """

    person: Person
    question_id: Id
    side: Side
    text: Text
    query: Query
    conversation: Id
    model: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
    bullet_points: bool = False
    consent: Version | None = None
    arm: Annotated[str, StringConstraints(pattern=_ARM)] | None = None
    propensity: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.arm is None) != (self.propensity is None):
            raise ValueError("an arm without its propensity, or a propensity without its arm")
        return self


class Reader(_Strict):
    """The person whose page is about to be shown, from the server that shows it."""

    person: Person


class Rating(_Strict):
    """A person's rating of an answer, or of a question's two."""

    token: Token
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    preference: Side | None = None
    better_than_previous: bool | None = None


class Asked(_Strict):
    """A request to score the question of an answer's token."""

    token: Token


class Check(_Strict):
    """What a page would report with; tokens may have any form, because this asks whether they are valid.

    Attributes:
        filler: pads the request to the size of the largest batch, to test what lies between the page and the collector.
    """

    responses: Annotated[list[str], Field(max_length=MAX_RESPONSES)]
    person: str | None = None
    consent: str | None = None
    filler: str = ""


class Malformed(Exception):
    """A body that does not match the model; the message names the place and the rule, never the content."""


def parse(model: type[Model], body: bytes) -> Model:
    """Read a body.

    Raises:
        Malformed: it is not JSON in UTF-8, nested too deeply, or breaks a rule of the model.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        # Names of unknown fields come from outside, so only declared ones are repeated.
        place = [str(part) for part in first["loc"] if isinstance(part, int) or part in model.model_fields]
        raise Malformed(f"{'.'.join(place) or 'body'}: {first['type']}") from None


def is_arm(name: str) -> bool:
    """Whether a registration takes this as the name of an arm."""
    return re.fullmatch(_ARM, name) is not None


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The `requestBody` of OpenAPI."""
    return {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}
