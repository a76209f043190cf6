"""The participants of the simulated release: workers, their conversations, what they ask, get and prefer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ifllm_hub.sources.simulation.readers import (
    CONVERSATION_SD,
    KINDS,
    MOUSE_LAG_MS,
    QUESTION_SD,
    WORKER_SD,
    Habit,
    Reader,
    Turn,
)
from ifllm_hub.sources.simulation.reading import Recording
from ifllm_hub.sources.simulation.text import MAX_LENGTH, MIN_LENGTH, STYLES, TOPICS, Topic, write_answer, write_query

# Model -> mean quality of its answers, in standard normal units.
MODELS = {"sim/alpha-7b": 0.0, "sim/beta-8b": 0.15, "sim/gamma-70b": 0.35, "sim/delta-mini": -0.25}
# Of single answers about the mean of their model.
QUALITY_SD = 0.85
_STYLE_SHARES = (0.3, 0.3, 0.18, 0.14, 0.08)
_VIEWPORTS = ((1280, 640), (1366, 660), (1440, 720), (1536, 730))
_AI_ERROR = "AI Error. The simulated model gave no answer. Send the question again or write to nobody@example.com."
_AI_ERROR_UTILITY = -4.0


@dataclass
class Question:
    """One turn. Sides: 0 left, 1 right.

    Attributes:
        turn: from 1.
        answers: as on screen, one per side; likewise `models` and `utility`.
        latent: pairwise: the side with the higher utility; pointwise: 1 better than the turn before, 0 worse.
        label: the same code after label noise; None if not labeled.
        flip_probability: that the label was flipped, given the utilities.
        cr_lf, model_cr_lf, ai_error, emoji: whether the question has this quirk.
        log_pace: its effect on the log of a known reader's pace.
    """

    turn: int
    bullet_points: bool
    query: str = ""
    answers: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    utility: list[float] = field(default_factory=list)
    latent: int | None = None
    label: int | None = None
    flip_probability: float = 0.0
    ratings: list[int] = field(default_factory=list)
    cr_lf: bool = False
    model_cr_lf: bool = False
    ai_error: bool = False
    emoji: bool = False
    question_id: int = 0
    log_pace: float = 0.0


@dataclass
class Conversation:
    """One worker's conversation on one task: its questions, its recording, and its quirks as a whole.

    Attributes:
        slot: which topic of the site; together with the mode, it gives the task number.
        finished: the worker pressed "Finished"; otherwise the last turn is not labeled.
        clock_error: its query times are stored 4 h too late.
        no_date: its first query time is stored as zeros.
        behavior, logged: whether it has a behavior folder, and rows in the query log.
        damaged: number of rows to break in one of its files; `damaged_ticks`: which ticks these became.
        log_pace: its effect on the log of a known reader's pace.
        seeds: of a known reader: what the random numbers of each question start from.
    """

    worker: "Worker"
    slot: int
    pairwise: bool
    n_turns: int
    finished: bool = True
    clock_error: bool = False
    no_date: bool = False
    behavior: bool = True
    logged: bool = True
    late_batch: bool = False
    damaged: int = 0
    questions: list[Question] = field(default_factory=list)
    recording: Recording | None = None
    damaged_ticks: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    log_pace: float = 0.0
    seeds: tuple[int, ...] = ()

    @property
    def task_id(self) -> int:
        """Even: pointwise, odd: pairwise."""
        return 2 * (30 + self.slot) + self.pairwise

    @property
    def topic(self) -> Topic:
        return TOPICS[self.slot % len(TOPICS)]

    @property
    def ticks(self) -> Recording:
        """The recording; only after the conversation has taken place."""
        assert self.recording is not None
        return self.recording


@dataclass
class Worker:
    """A worker; `free_slots` are the topics they have not chosen yet."""

    worker_id: str
    schema_version: int
    reader: Reader
    accuracy: int
    free_slots: list[int]
    conversations: list[Conversation] = field(default_factory=list)


def person_id(seed: int, number: int) -> str:
    return f"worker_{hashlib.sha256(f'{seed}/{number}'.encode()).hexdigest()[:8]}"


def recruit(rng: np.random.Generator, n: int, n_slots: int, seed: int) -> list[Worker]:
    """`n` workers, a fifth each in September 2025 (schema 1) and January 2026 (schema 3)."""
    few = max(1, round(0.2 * n))
    versions = rng.permutation([1] * few + [3] * few + [2] * (n - 2 * few)).tolist()
    people = []
    for number, version in enumerate(versions):
        width, height = _VIEWPORTS[int(rng.integers(len(_VIEWPORTS)))]
        reader = Reader(
            width=width,
            height=height,
            interval=float(rng.choice([62.0, 74.0, 80.0, 80.0, 88.0, 110.0])),
            whole_ms=number == 1,
            pace=float(rng.uniform(34, 52)),
            strength=float(rng.uniform(0.5, 1.5)),
            follow=float(rng.uniform(0.18, 0.4)),
            gaze_bias=(float(rng.normal(0, 25)), float(rng.normal(0, 15))),
            splits_text=number == versions.index(2),
        )
        slots = rng.permutation(n_slots).tolist()
        people.append(Worker(person_id(seed, number), version, reader, int(rng.integers(71, 96)), slots))
    return people


def assign_conversations(rng: np.random.Generator, people: list[Worker], n_questions: int) -> None:
    """Mostly 3 turns each; a few workers have most conversations; half are pairwise."""
    n = min(max(len(people) + 1, round(n_questions / 3.3)), n_questions // 3)
    shares = 1 / (3 + rng.permutation(len(people)))
    # The worker with the text-splitting extension is one of the most active, as in the real release.
    shares[[worker.reader.splits_text for worker in people].index(True)] = 0.25
    counts = 1 + rng.multinomial(n - len(people) - 1, shares / shares.sum())
    counts[[worker.schema_version for worker in people].index(3)] += 1
    turns = 3 + np.bincount(rng.integers(n, size=n_questions - 3 * n), minlength=n)

    owners = [worker for worker, count in zip(people, counts.tolist(), strict=True) for _ in range(count)]
    # The behavior of January 2026 is all pairwise.
    pairwise = np.array([worker.schema_version == 3 for worker in owners])
    others = rng.permutation(np.flatnonzero(~pairwise))
    pairwise[others[: max(0, n // 2 - int(pairwise.sum()))]] = True
    for worker, is_pairwise, n_turns in zip(owners, pairwise.tolist(), turns.tolist(), strict=True):
        worker.conversations.append(Conversation(worker, worker.free_slots.pop(), is_pairwise, n_turns))
    for conversation in (c for worker in people for c in worker.conversations):
        conversation.questions = [Question(i + 1, bool(rng.random() < 0.48)) for i in range(conversation.n_turns)]


def place_quirks(rng: np.random.Generator, people: list[Worker]) -> None:
    """Choose the conversations and questions that get the faults of the real release."""
    conversations = [conversation for worker in people for conversation in worker.conversations]

    def choose(share: float, least: int, fits: Callable[[Conversation], bool]) -> list[Conversation]:
        candidates = [conversation for conversation in conversations if fits(conversation)]
        n = min(len(candidates), max(least, round(share * len(conversations))))
        return [candidates[i] for i in sorted(rng.choice(len(candidates), n, replace=False).tolist())]

    silent = max((w for w in people if w.schema_version == 3), key=lambda w: len(w.conversations)).conversations[-1]
    silent.pairwise, silent.behavior = False, False
    v1 = [conversation for conversation in conversations if conversation.worker.schema_version == 1]
    for i in rng.permutation(len(v1))[: max(1, round(2 / 3 * len(v1)))]:
        v1[i].clock_error = True
    for conversation in choose(0.08, 2, lambda c: not c.clock_error):
        conversation.finished = False
    for conversation in choose(0, 1, lambda c: c.worker.schema_version == 2):
        conversation.no_date = True
    for conversation in choose(0.03, 2, lambda c: c.behavior):
        conversation.late_batch = True
    for conversation in choose(0, 2, lambda c: c.behavior and not c.worker.reader.splits_text):
        conversation.damaged = int(rng.integers(6, 20))

    # At most one of these per question, and first where the recorded windows show it.
    places = [(c, question) for c in conversations for question in c.questions]
    shuffled = [places[i] for i in rng.permutation(len(places)).tolist()]
    shuffled.sort(key=lambda place: not place[0].behavior or place[0].worker.reader.splits_text)
    unspoilt = iter(shuffled)
    for share, least, quirk in ((0.01, 3, "ai_error"), (0.02, 3, "cr_lf"), (0, 1, "model_cr_lf"), (0.05, 3, "emoji")):
        for _ in range(max(least, round(share * len(places)))):
            setattr(next(unspoilt)[1], quirk, True)

    # A behavior folder whose questions are not in the log.
    worker = choose(0, 1, lambda c: c.worker.schema_version == 2)[0].worker
    lost = Conversation(worker, worker.free_slots.pop(), True, 1, finished=False, logged=False)
    lost.questions = [Question(1, False)]
    worker.conversations.append(lost)


def know_readers(people: list[Worker], seed: int) -> None:
    """Give every worker a known way of reading, the kinds in equal numbers, and every question seeds of its own."""
    rng = np.random.default_rng([seed, 2])
    kinds = [KINDS[i % len(KINDS)] for i in rng.permutation(len(people)).tolist()]
    for number, (worker, kind) in enumerate(zip(people, kinds, strict=True)):
        habit = Habit(kind, float(rng.uniform(*MOUSE_LAG_MS)), float(rng.normal(0, WORKER_SD)))
        worker.reader = replace(worker.reader, habit=habit)
        for i, conversation in enumerate(worker.conversations):
            conversation.seeds = (seed, 3, number, i)
            conversation.log_pace = float(rng.normal(0, CONVERSATION_SD))
            for question in conversation.questions:
                question.log_pace = float(rng.normal(0, QUESTION_SD))


def converse(rng: np.random.Generator, conversation: Conversation) -> list[Turn]:
    """Fill in the questions of a conversation: texts, utilities, labels. Returns what the worker has to read."""
    n_sides = 1 + conversation.pairwise
    models = [list(MODELS)[i] for i in rng.choice(len(MODELS), n_sides, replace=False)]
    turns = []
    before: float | None = None
    for question in conversation.questions:
        seeds = (*conversation.seeds, question.turn)
        if conversation.seeds:
            rng = np.random.default_rng(seeds)
        _write_texts(rng, conversation, question, models)
        labeled = conversation.finished or question.turn < conversation.n_turns
        gap = question.utility[0] - (question.utility[1] if conversation.pairwise else (before or 0.0) - 0.9)
        if conversation.pairwise:
            question.latent = int(gap < 0)
            liked = float(np.tanh(gap / 1.3))
            liking: tuple[float, ...] = (liked, -liked)
        else:
            question.latent = int(gap > 0) if before is not None else None
            liking = (0.4 * float(np.tanh(question.utility[0])),)
        if question.latent is not None:
            # Close calls are mislabeled more often; about one label in six is wrong.
            question.flip_probability = float(0.05 + 0.33 * np.exp(-abs(gap) / 0.9))
            flipped = bool(rng.random() < question.flip_probability)
            question.label = question.latent ^ flipped if labeled else None
        if labeled:
            question.ratings = _rate(rng, question, abs(gap))
        before = question.utility[0]
        chosen = (question.label or 0) if labeled else None
        log_pace = conversation.log_pace + question.log_pace
        turns.append(Turn(tuple(question.answers), liking, chosen, question.bullet_points, log_pace, (*seeds, 1)))
    return turns


def _write_texts(rng: np.random.Generator, conversation: Conversation, question: Question, models: list[str]) -> None:
    topic = conversation.topic
    question.query, part = write_query(rng, topic, question.turn)
    question.models = list(models)
    typical = rng.normal(np.log(600), 0.45)
    for model in models:
        quality = float(MODELS[model] + rng.normal(0, QUALITY_SD))
        length = int(np.clip(np.exp(typical + rng.normal(0, 0.4)), MIN_LENGTH, MAX_LENGTH))
        # Of a known reader, nothing but the words of an answer depends on whether it has bullet points.
        words = rng.spawn(1)[0] if conversation.seeds else rng
        style = "bullets" if question.bullet_points else STYLES[int(words.choice(len(STYLES), p=_STYLE_SHARES))]
        if conversation.damaged:
            style = "quotes"  # a CSV round trip breaks quotation marks most of all
        answer = write_answer(words, topic, part, quality, style, length, question.emoji)
        question.answers.append(answer)
        question.utility.append(quality + length_utility(answer))
    if question.ai_error:
        side = int(rng.integers(len(models)))
        question.answers[side], question.utility[side] = _AI_ERROR, _AI_ERROR_UTILITY


def length_utility(answer: str) -> float:
    """What the length of an answer adds to its quality, in the same units."""
    return 1.05 * float(np.log(len(answer) / 600))


def _rate(rng: np.random.Generator, question: Question, gap: float) -> list[int]:
    """Likert ratings, 1-5: in pairs 28 % are ties, and 95 % of the others agree with the label."""
    if len(question.answers) == 1:
        rating = int(np.clip(np.rint(4.3 + 0.35 * question.utility[0] + rng.normal(0, 0.6)), 1, 5))
        ratings = [rating]
    else:
        tie = rng.random() < (0.42 if gap < 0.7 else 0.22)
        winner = question.label if rng.random() < 0.95 else 1 - (question.label or 0)
        high, step = int(rng.choice([4, 5])), int(rng.choice([1, 1, 1, 2, 3]))
        ratings = [high if tie or side == winner else high - step for side in (0, 1)]
    return [1 if answer == _AI_ERROR else r for answer, r in zip(question.answers, ratings, strict=True)]
