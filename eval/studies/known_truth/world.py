"""Texts and studies of the simulated world: questions with answers in any number, and rated readings with the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.files import make_folder, read_parquet, write_parquet
from ifllm_hub.preferences.labels import MODELS
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.simulation.people import assign_conversations, converse, recruit
from ifllm_hub.sources.simulation.simulate import TRUTH_FILE, simulate_release
from ifllm_hub.sources.simulation.text import TOPICS, Topic

# 676 rated pairs or so, as many as the study's.
WORKERS, QUESTIONS = 60, 1400
_TRUTH = ("utility_left", "utility_right", "latent_preference")
_BY_TOPIC = {part: topic for topic in TOPICS for part in topic.parts} | {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True)
class Written:
    """A question, and the answers that the simulator wrote, with their true utilities."""

    query: str
    topic: Topic
    answers: tuple[str, ...]
    utilities: tuple[float, ...]


def write(questions: int, seed: int) -> list[Written]:
    """Pairs of answers as in a study, without anybody who reads them."""
    rng = np.random.default_rng([seed, 4])
    # About half of the questions are pairwise, so that a tenth more than twice as many are enough.
    asked = round(2.2 * questions) + 20
    people = recruit(rng, 4, asked, seed)
    assign_conversations(rng, people, asked)
    written: list[Written] = []
    for conversation in (c for worker in people for c in worker.conversations if c.pairwise):
        converse(rng, conversation)
        written += [
            Written(one.query, conversation.topic, tuple(one.answers), tuple(one.utility))
            for one in conversation.questions
        ]
    return [written[at] for at in rng.permutation(len(written))[:questions]]


def topic_of(query: str) -> Topic:
    """What a query of the grammar is about: every query names its topic or a part of it."""
    return _BY_TOPIC[max((name for name in _BY_TOPIC if name in query), key=len)]


def study(folder: Path, seed: int, workers: int = WORKERS, questions: int = QUESTIONS) -> Pairs:
    """The rated pairs of one simulated study with their true utilities; simulated and built at the first call."""
    file = folder / f"study-{seed}.parquet"
    if not file.is_file():
        make_folder(folder)
        with TemporaryDirectory(dir=folder) as place:
            release = simulate_release(Path(place) / "release", workers, questions, seed)
            dataset = Path(place) / "dataset"
            build_dataset(open_release(str(release / "dataset")), dataset, tier="public", report=False)
            truth = pl.read_parquet(release / TRUTH_FILE).select("question_id", *_TRUTH)
            rows = labeled(load_pairs(dataset)).rows.drop("messages_left", "messages_right")
            write_parquet(file, rows.join(truth, on="question_id", how="inner", maintain_order="left"))
    return Pairs(read_parquet(file))


def pooled(studies: Sequence[Pairs]) -> Pairs:
    """Several studies as one, of which no two share a worker; question ids are not unique any more."""
    return Pairs(pl.concat([one.rows for one in studies]))


def signs(pairs: Pairs, column: str = "preference") -> np.ndarray:
    """(pairs,) int8: 1 where the left answer is chosen, else -1."""
    return np.where(pairs.rows[column].to_numpy() == "left", 1, -1).astype(np.int8)


def model_labels(learned_from: Pairs, readings: Pairs) -> dict[str, np.ndarray]:
    """Labels of readings by models that learned from the rated pairs of another study: (pairs,) signs, 0 if undecided.

    `forest` and `forest_mouse` see the reading, `text` the words of the answers, `longer` their length. None of them
    sees a label of these readers.
    """
    told = {name: MODELS[name](learned_from, readings, 0) for name in ("forest", "forest_mouse")}
    told["text"] = text_reward(learned_from, readings)
    found = {name: np.sign(probability - 0.5) for name, probability in told.items()}
    found["longer"] = np.sign(readings.X(LENGTH_FEATURES)[:, 0])
    return {name: values.astype(np.int8) for name, values in found.items()}


def text_reward(train: Pairs, test: Pairs) -> np.ndarray:
    """(test,) P(left preferred) by a reward that is linear in word counts and log length (Bradley-Terry 1952).

    Its penalty is chosen in folds over the workers of the training pairs.
    """
    words = CountVectorizer(min_df=5, dtype=np.float64)
    words.fit([*train.rows["response_left"], *train.rows["response_right"]])

    def contrast(pairs: Pairs) -> np.ndarray:
        left, right = (np.log1p(words.transform(pairs.rows[f"response_{s}"]).toarray()) for s in ("left", "right"))
        return np.hstack([left - right, pairs.X(LENGTH_FEATURES)])

    model = GridSearchCV(
        LogisticRegression(fit_intercept=False, max_iter=2000),
        {"C": np.logspace(-4, 0, 5)},
        scoring="neg_log_loss",
        cv=GroupKFold(4),
    ).fit(contrast(train), train.y, groups=train.groups("worker_id"))
    return np.asarray(model.predict_proba(contrast(test))[:, 1])
