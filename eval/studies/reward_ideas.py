"""What was tried for the reward model: each idea beside the longer answer and the model, and personal offsets.

python -m eval.studies.reward_ideas runs/dataset --out docs/results/reward_ideas.md

Everything is a logistic regression without intercept unless its name says otherwise, tested on workers it never saw.
The page is written from the numbers; the same dataset gives the same page.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from eval.studies.personal import earlier_ratings, offset_variance, personalized
from eval.studies.reading_paths import CONVOLVED, convolutions, reading_paths
from eval.studies.standardize import standardize
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.catalog import CATALOG, ODD
from ifllm_hub.features.centering import PRIOR_READINGS
from ifllm_hub.files import write_atomically
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER, logistic, nested, with_habit
from ifllm_hub.reward.protocol.folds import FitPredict, out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, LENGTH_FEATURES, Pairs, labeled, load_pairs, with_behavior
from ifllm_hub.reward.protocol.scores import measured, score
from ifllm_hub.terms import MODALITIES

RAW = with_habit(FEATURES)
CONTRASTS = tuple(name for name in RAW if name not in LENGTH_FEATURES)
LESS_HABIT = tuple(name for name in FEATURES if name not in LENGTH_FEATURES)
ALL_ODD = tuple(feature.name for feature in CATALOG if feature.swap == ODD)
PRIORS = (0, 1, 10, 30)
PENALTIES = (0.0001, 0.001, 0.01, 0.1)
MODEL = f"**contrasts of the model**: less habit, prior of {PRIOR_READINGS} readings"
INTERCEPT = "intercept added (not antisymmetric)"
# Which of a worker's earlier ratings fit the offset: how many, and whether those in the pair's conversation count.
NONE, FIRST = {"none": (0, True)}, {"first 5": (5, True), "first 20": (20, True)}
EVERY = {"all earlier": (10**9, True), "all earlier, other conversations": (10**9, False)}
LATER = 20
# What is compared, and the sign of a difference that is better.
DIRECTIONS = {"accuracy": 1, "Brier": -1}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a folder made by `ifllm build`")
    parser.add_argument("--out", type=Path, default=Path("runs/reward_ideas.md"))
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    with threadpool_limits(1):  # the fits are small: more threads only wait for each other
        write_atomically(options.out, page(options.dataset, options.seeds))


def page(dataset: str, seeds: int) -> str:
    everything = with_columns_of_ideas(load_pairs(dataset), load_config(dataset, "trajectories"))
    pairs, everyone = labeled(everything), labeled(everything, all_workers=True)
    sections = ideas(everyone)
    fits = {name: fit for tried in sections.values() for name, fit in tried.items()}
    told = {name: out_of_fold(pairs, fit, "worker", seeds) for name, fit in track(fits.items(), "ideas")}
    main = [*sections["Baselines"], *sections["Habit"], INTERCEPT]
    told_of_all = {name: out_of_fold(everyone, fits[name], "worker", seeds) for name in track(main, "all workers")}
    lines = [
        *introduction(pairs, everyone, len(fits) - len(sections["Baselines"]), seeds),
        *clear_differences(told, pairs),
        *(line for title, tried in sections.items() for line in comparison(title, list(tried), told, pairs)),
        *comparison(f"All {len(everyone)} pairs, nobody excluded", main, told_of_all, everyone),
        *habits(with_behavior(everything, all_workers=True)),
        *personalization(pairs, seeds),
    ]
    return "\n".join(lines) + "\n"


def ideas(everyone: Pairs) -> dict[str, dict[str, FitPredict]]:
    """What was tried on top of the model, by what it changes."""
    first, last = (tuple(f"{modality}_{which}_side" for modality in MODALITIES) for which in ("first", "last"))
    by_length = tuple(f"{name}_by_length" for name in FEATURES)
    all_odd = variant("_less", ALL_ODD)
    excluded = everyone.filter(pl.col("excluded_worker"))
    return {
        "Baselines": {LONGER_ANSWER.name: LONGER_ANSWER.fit, MODEL: logistic(FEATURES)},
        "Habit": {
            "contrasts as read": logistic(RAW),
            **{f"less habit, prior of {n} readings": logistic(variant(f"_less_{n}")) for n in PRIORS},
            "less habit, from earlier questions only": logistic(variant("_less_earlier")),
            "less the habit that the length ratio leaves": logistic(variant("_given_length_less")),
            "less habit of the conversation": logistic(variant("_less_conversation")),
            "as read, over the worker's RMS": logistic(variant("_over_rms")),
            "less habit, over the worker's RMS": logistic(variant("_less_habit_over_rms")),
        },
        "Position and order": {
            INTERCEPT: logistic((*FEATURES, "intercept")),
            "side read first added": logistic(FEATURES + first),
            "side read last added": logistic(FEATURES + last),
            "less what the side read first gets, less habit": logistic(variant("_given_order_less")),
        },
        "Labels": {
            "weight 1 + rating gap / 2": logistic(FEATURES, per_gap=0.5),
            "weight 1 + 2 x rating gap": logistic(FEATURES, per_gap=2.0),
            "soft labels: ties .65, gap 1 .825, more 1": soft_labels(FEATURES, 0.65),
            "soft labels: ties .8, gap 1 .9, more 1": soft_labels(FEATURES, 0.8),
        },
        "Length": {
            "without the length": logistic(LESS_HABIT),
            "length ratio x log length of the pair added": logistic(FEATURES + by_length[:1]),
            "every contrast x log length of the pair added": logistic(FEATURES + by_length),
        },
        "More features, penalty chosen in the folds": {
            f"all {len(ALL_ODD)} odd features, as read": chosen_penalty((), ALL_ODD),
            "all odd features, less habit": chosen_penalty((), all_odd),
            "all odd features, less habit, added": chosen_penalty(FEATURES, all_odd[len(LENGTH_FEATURES) :]),
            "random convolutions of the reading path alone": chosen_penalty((), CONVOLVED),
            "random convolutions of the reading path added": chosen_penalty(FEATURES, CONVOLVED),
        },
        "More workers": {"trained on the excluded workers too": also_on(excluded, logistic(FEATURES))},
    }


def variant(suffix: str, names: tuple[str, ...] = CONTRASTS) -> tuple[str, ...]:
    """The length and another form of these contrasts; see `with_columns_of_ideas`."""
    return LENGTH_FEATURES + tuple(name + suffix for name in names if name not in LENGTH_FEATURES)


def soft_labels(features: tuple[str, ...], tie: float) -> FitPredict:
    """The preferred side counts `tie` where both ratings are equal, 1 where they are two apart, the other the rest."""

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        gap = (train.rows["rating_left"] - train.rows["rating_right"]).abs().fill_null(0).clip(0, 2).to_numpy()
        sure, y = tie + (1 - tie) * gap / 2, train.y
        X, X_test = scaled(train, test, features)
        model = LogisticRegression(fit_intercept=False)
        model.fit(np.vstack([X, X]), np.concatenate([y, 1 - y]), np.concatenate([sure, 1 - sure]))
        return model.predict_proba(X_test)[:, 1]

    return fit


def chosen_penalty(firm: tuple[str, ...], loose: tuple[str, ...]) -> FitPredict:
    """Coefficients of `firm` with the prior of the model, those of `loose` with one chosen by nested folds."""
    return nested(tuple(two_priors(firm, loose, C) for C in PENALTIES))


def two_priors(firm: tuple[str, ...], loose: tuple[str, ...], C: float) -> FitPredict:
    """Logistic regression, prior variance 1 for the coefficients of `firm` and C for those of `loose`."""
    spread = np.repeat([1.0, np.sqrt(C)], [len(firm), len(loose)])

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        X, X_test = scaled(train, test, firm + loose)
        model = LogisticRegression(fit_intercept=False, max_iter=1_000).fit(X * spread, train.y)
        return model.predict_proba(X_test * spread)[:, 1]

    return fit


def scaled(train: Pairs, test: Pairs, features: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Both over the root mean square of the training pairs; undefined contrasts are 0."""
    X, X_test = np.nan_to_num(train.X(features)), np.nan_to_num(test.X(features))
    scale = np.sqrt((X**2).mean(axis=0)) + 1e-12
    return X / scale, X_test / scale


def also_on(more: Pairs, fit: FitPredict) -> FitPredict:
    """Trained on more pairs, of workers that are never tested."""
    return lambda train, test, seed: fit(Pairs(pl.concat([train.rows, more.rows])), test, seed)


def with_columns_of_ideas(pairs: Pairs, trajectories: pl.DataFrame) -> Pairs:
    """All columns the ideas read. They rest on what was read in all questions, on no label."""
    length = pl.col("length_log_sum")
    rows = pairs.rows.with_columns(
        *(less_mean(name, "worker_id", n).alias(f"{name}_less_{n}") for name in CONTRASTS for n in PRIORS),
        *(less_mean(name, "worker_id").alias(f"{name}_less") for name in ALL_ODD),
        *(less_mean(name, "conversation_id").alias(f"{name}_less_conversation") for name in CONTRASTS),
        *(less_earlier(name).alias(f"{name}_less_earlier") for name in CONTRASTS),
        *(given(name, LENGTH_FEATURES[0]).alias(f"{name}_given_length") for name in CONTRASTS),
        *(given(name, f"{name.split('_')[0]}_first_side").alias(f"{name}_given_order") for name in CONTRASTS),
        *((pl.col(name) * (length - length.mean())).alias(f"{name}_by_length") for name in FEATURES),
        intercept=pl.lit(1.0),
    ).with_columns(
        less_mean(f"{name}_given_{what}", "worker_id").alias(f"{name}_given_{what}_less")
        for name in CONTRASTS
        for what in ("length", "order")
    )
    over = over_rms(rows, CONTRASTS, "_over_rms"), over_rms(rows, LESS_HABIT, "_less_habit_over_rms")
    convolved = convolutions(reading_paths(rows["question_id"], trajectories))
    return Pairs(pl.concat([rows, *over, pl.DataFrame(convolved, schema=list(CONVOLVED))], how="horizontal"))


def less_mean(name: str, by: str, prior: int = PRIOR_READINGS) -> pl.Expr:
    """As `habits.center_by_worker`, of any group and any prior."""
    x = pl.col(name)
    return x - x.sum().over(by) / (x.count().over(by) + prior)


def less_earlier(name: str) -> pl.Expr:
    """Less the habit in the worker's questions before this one."""
    x, known, order = pl.col(name), pl.col(name).is_not_null().cast(pl.Int64), ["asked_at", "question_id"]
    total, count = (one.cum_sum().over("worker_id", order_by=order) - one for one in (x.fill_null(0), known))
    return x - total / (count + PRIOR_READINGS)


def given(name: str, reason: str) -> pl.Expr:
    """Less what everybody's other odd number explains: the residual of a least-squares line through 0."""
    why = pl.col(reason).fill_null(0)
    return pl.col(name) - why * (pl.col(name) * why).sum() / (why * why).filter(pl.col(name).is_not_null()).sum()


def over_rms(rows: pl.DataFrame, names: tuple[str, ...], suffix: str) -> pl.DataFrame:
    contrasts = rows.select(names).rename(dict(zip(names, CONTRASTS, strict=True)))
    return standardize(contrasts, rows["worker_id"]).rename(lambda name: name + suffix)


def introduction(pairs: Pairs, everyone: Pairs, count: int, seeds: int) -> Iterator[str]:
    yield "# Ideas tried for the reward model\n"
    yield "Written by `python -m eval.studies.reward_ideas DATASET --out FILE`; do not edit.\n"
    yield paragraph(
        f"{len(pairs)} rated pairs of {workers(pairs)} workers ({len(everyone)} of {workers(everyone)} with those on "
        f"the authors' exclusion list). Five folds over workers; the mean over {seeds} seeds, each with new folds; "
        "95 % intervals by jackknife over workers. Every model is an antisymmetric logistic regression (L2, no "
        "intercept, features scaled by the training pairs) unless its name says otherwise. Habits are taken over all "
        "of a worker's questions, later ones included, without labels, unless a row says otherwise."
    )
    yield paragraph(
        f"**{count} ideas are compared on the same pairs**, after others that led to the model itself: differences of "
        "less than .02 in accuracy are noise, and about one interval in twenty leaves out 0 for an idea that does "
        'nothing. Better is positive for accuracy and negative for Brier; of ECE, less is better. "At 50 %" is the '
        "accuracy on the half of the pairs a model is surest of."
    )


def clear_differences(told: dict[str, np.ndarray], pairs: Pairs) -> Iterator[str]:
    """Which intervals of differences to the model leave out 0, written from the numbers."""
    for what, better in DIRECTIONS.items():
        gains = {name: difference(told[name], told[MODEL], pairs, what) for name in told if name != MODEL}
        found = ""
        for word, sign in (("Better", better), ("Worse", -better)):
            clear = [name for name, gain in gains.items() if min(sign * gain["low"], sign * gain["high"]) > 0]
            found += f" {word}: {'; '.join(clear) or 'none'}."
        yield fill(f"- Intervals of {what} against the model that leave out 0.{found}", 120, subsequent_indent="  ")


def comparison(title: str, names: list[str], told: dict[str, np.ndarray], pairs: Pairs) -> Iterator[str]:
    longer, model = told[LONGER_ANSWER.name], told[MODEL]
    yield f"\n## {title}\n"
    yield from table(
        "idea | accuracy | AUC | Brier | ECE | at 50 % | accuracy - longer | accuracy - model | Brier - model",
        ([name, *scores(told[name], longer, pairs), *against(told[name], model, pairs)] for name in names),
    )


def scores(probability: np.ndarray, longer: np.ndarray, pairs: Pairs) -> list[str]:
    row = score(probability, longer, pairs)
    flat = f"{row['auc']['mean']:.3f} {row['brier']:.4f} {row['ece']:.3f} {row['accuracy_at_50']:.3f}"
    return [interval(row["accuracy"]), *flat.split(), against(probability, longer, pairs)[0]]


def against(probability: np.ndarray, reference: np.ndarray, pairs: Pairs) -> list[str]:
    """Differences of accuracy and of Brier; nothing against itself."""
    if probability is reference:
        return ["", ""]
    forms = zip(DIRECTIONS, ("+.3f", "+.4f"), strict=True)
    return [interval(difference(probability, reference, pairs, what), form) for what, form in forms]


def difference(probability: np.ndarray, reference: np.ndarray, pairs: Pairs, what: str) -> dict[str, float]:
    row: dict[str, dict[str, float]] = score(probability, reference, pairs)
    return row[{"accuracy": "gain_over_longer_answer", "Brier": "brier_over_longer_answer"}[what]]


def habits(pairs: Pairs) -> Iterator[str]:
    """How much of each contrast is the worker, with intervals over workers."""
    yield "\n## How much of a contrast is habit\n"
    yield paragraph(
        f"{len(pairs)} pairs with behavior of {workers(pairs)} workers, rated or not. One-way random effects with "
        "mean 0: the variance within workers, that of their habits, and the ratio, which is the best number of prior "
        f"readings for normal contrasts (`centering.py` uses {PRIOR_READINGS}). 95 % bootstraps over workers; a "
        "ratio without a finite end means that no habit is one of the possibilities. The length is no reading, so "
        "what of it is between workers is no habit; the rows given the length have it taken out, by a line through 0."
    )
    yield from table(
        "contrast | readings | within workers | between workers | share that is habit | ratio",
        ([name, *variances(pairs.rows, name)] for name in (*RAW, *(f"{name}_given_length" for name in CONTRASTS))),
    )


def variances(rows: pl.DataFrame, name: str) -> list[str]:
    x = pl.col(name)
    by = rows.filter(x.is_not_null()).group_by("worker_id", maintain_order=True)
    sums = by.agg(n=x.len(), inside=((x - x.mean()) ** 2).sum(), mean=x.len() * x.mean() ** 2).drop("worker_id")
    of_worker = sums.cast(pl.Float64).to_numpy()
    count = len(of_worker)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=1_000)
    within, between = components(of_worker.sum(axis=0), count)
    ratios = np.divide(*components((drawn @ of_worker).T, count))
    low, high = np.percentile(np.where(ratios > 0, ratios, np.inf), [2.5, 97.5], method="nearest")
    ratio = interval({"mean": within / between if between > 0 else np.inf, "low": low, "high": high}, ".1f")
    flat = f"{of_worker[:, 0].sum():.0f} {within:.4f} {between:.4f} {between / (within + between):.2f}"
    return [*flat.split(), ratio]


def components(sums: np.ndarray, count: int) -> tuple[Any, Any]:
    """Variance within and between workers from the sums of n, of squares about the means, and of n mean^2."""
    n, inside, means = sums
    within = inside / (n - count)
    return within, (means - count * within) / n


def personalization(pairs: Pairs, seeds: int) -> Iterator[str]:
    """Offsets from a worker's own ratings, on several models that never saw the worker."""
    later = earlier_ratings(pairs) >= LATER
    after, few = Pairs(pairs.rows.filter(later)), max(1, seeds // 4)
    bases: dict[str, tuple[FitPredict, int]] = {
        "one half": (lambda train, test, seed: np.full(len(test), 0.5), seeds),
        LONGER_ANSWER.name: (LONGER_ANSWER.fit, seeds),
        "contrasts of the model": (logistic(FEATURES), seeds),
        "the same, habit from earlier questions only": (logistic(variant("_less_earlier")), seeds),
        f"forest ({few} seeds)": (FOREST.fit, few),
    }
    told: dict[str, dict[str, np.ndarray]] = {used: {} for used in NONE | FIRST | EVERY}
    chosen = []
    for name, (fit, count) in track(bases.items(), "personal offsets"):
        probability, variance = (out_of_fold(pairs, one, "worker", count) for one in (fit, offset_variance(fit)))
        chosen.append(f"{name} {np.median(variance):g} ({variance.min():g} to {variance.max():g})")
        for used, (first, own) in (NONE | FIRST | EVERY).items():
            told[used][name] = personalized(probability, variance, pairs, first, own)
    yield "\n## Personal offsets\n"
    yield paragraph(
        "A worker's first k rated pairs, in the order of asking, fit one offset on the logit of a model that never saw "
        "the worker (`eval/studies/personal.py`): which side this person leans to. That breaks antisymmetry on "
        "purpose, so it is no part of the reward. The prior variance is chosen in each fold from the training workers; "
        f"median (range): {', '.join(chosen)}."
    )
    if len(after):
        yield paragraph(
            f"On the same {len(after)} pairs for all k: those after the {LATER}th of the {workers(after)} workers with "
            f"more than {LATER}. One worker has {after.rows['worker_id'].value_counts()['count'].max()} of them. With "
            "so few workers, intervals say little."
        )
        told_after = {used: {name: p[:, later] for name, p in told[used].items()} for used in NONE | FIRST}
        yield from offsets(told_after, after)
    else:
        yield f"No worker has more than {LATER} rated pairs."
    yield "\n" + paragraph(
        f"On all {len(pairs)} pairs of {workers(pairs)} workers, from as many earlier ratings as there are. Each side "
        "keeps its LLM throughout a conversation, so ratings in the same conversation speak of the answers as well as "
        "of the worker; the rows of other conversations are without them."
    )
    yield from offsets({used: told[used] for used in NONE | EVERY}, pairs)


def offsets(told: dict[str, dict[str, np.ndarray]], pairs: Pairs) -> Iterator[str]:
    yield from table(
        "P without the worker | ratings used | accuracy | AUC | Brier | accuracy - none | Brier - none | "
        "Brier - longer answer, same ratings",
        (
            [
                name,
                used,
                *absolute(told[used][name], pairs),
                *against(told[used][name], told["none"][name], pairs),
                against(told[used][name], told[used][LONGER_ANSWER.name], pairs)[1],
            ]
            for name in told["none"]
            for used in told
        ),
    )


def absolute(probability: np.ndarray, pairs: Pairs) -> list[str]:
    own = measured(probability, pairs)
    forms = (("accuracy", ".3f"), ("auc", ".3f"), ("brier", ".4f"))
    return [interval(own[name].jackknife(pairs).estimate, form) for name, form in forms]


def workers(pairs: Pairs) -> int:
    return pairs.rows["worker_id"].n_unique()


def interval(value: dict[str, float], form: str = ".3f") -> str:
    return f"{value['mean']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def paragraph(text: str) -> str:
    return fill(text, 120) + "\n"


def table(head: str, rows: Any) -> Iterator[str]:
    yield f"| {head} |"
    yield "|---" * (head.count("|") + 1) + "|"
    yield from (f"| {' | '.join(cells)} |" for cells in rows)


if __name__ == "__main__":
    main()
