"""Which labels make a policy prefer what unseen workers prefer, to the first order; every pair is tested once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ifllm_hub.align.first_order.descent import LENGTHS, Labels, descend, likelihood_push
from ifllm_hub.align.first_order.gradients import Adapter, answer_gradients, tokenize
from ifllm_hub.align.first_order.gram import gram, of_pairs
from ifllm_hub.align.first_order.sources import EXPLICIT, Compared, load_compared, text_labels
from ifllm_hub.align.policies import load_policy
from ifllm_hub.terms import Advance

GEOMETRIES = ("adam", "plain")
# Of the likelihood term in the controls: `nll_weight` over `beta`, as in the recipes.
_LIKELIHOOD = 1 / 0.1
# Permutations that are trained with it.
_WITH_LIKELIHOOD = 200


@dataclass(frozen=True)
class FirstOrder:
    """The settings of a comparison.

    Attributes:
        dataset: a folder or Hub id with labels; every label source of it is compared.
        out: where gradients and results go; a second call continues there.
        adapter: the policy and what would be trained.
        judged_by: the label source that says which answer is better; `explicit`, or the truth of a simulation.
        permutations: of the workers' labels, for the control.
        jobs: processes for the gradients.
    """

    dataset: str
    out: Path
    adapter: Adapter = field(default_factory=Adapter)
    judged_by: str = EXPLICIT
    permutations: int = 499
    jobs: int = 1


@dataclass(frozen=True)
class Trained:
    """Policies trained on many labelings, and what they prefer among the pairs of workers they were not trained on.

    Attributes:
        margins: (lengths, pairs, labelings) nats, of the left answer.
        chosen: (folds, labelings) index of the length at which a policy reproduced most of the same source's labels of
            unseen workers, with each training fold held out in turn. No label of the fold tested on has a part in it.
        learned: (labelings,) mean share of its training labels that a policy reproduces at the chosen length.
    """

    margins: np.ndarray
    chosen: np.ndarray
    learned: np.ndarray


@dataclass(frozen=True)
class FirstOrderResult:
    """Of each geometry and each kind of training, see `Trained`.

    Attributes:
        compared: the pairs.
        names: of the labelings that are no permutations: the label sources, then the positive controls.
        signs: (pairs, names) their labels, those of the pairs of a fold without it.
        trained: geometry -> labelings `names`, then the permutations.
        likelihood: geometry -> with the likelihood of the chosen answers beside the preference loss: `explicit`, then
            the permutations.
    """

    compared: Compared
    names: list[str]
    signs: np.ndarray
    trained: dict[str, Trained]
    likelihood: dict[str, Trained]


def compare_first_order(settings: FirstOrder, advance: Advance = lambda _: None) -> FirstOrderResult:
    """Gradients of all answers, where they are missing, and from them the training on every label source.

    Raises:
        IfllmError: see `load_compared` and `answer_gradients`.
    """
    compared = load_compared(settings.dataset, settings.judged_by)
    texts = compared.texts()
    files = answer_gradients(
        texts, settings.out / "gradients", settings.adapter, settings.jobs, lambda done: advance(0.9 * done)
    )
    answers = gram(files)
    controls = text_labels(compared)
    names = [*compared.sources, *controls]
    shuffled = compared.permuted(settings.permutations)
    folds = np.unique(compared.folds)
    by_fold = {int(fold): np.column_stack([compared.labels(int(fold)), *controls.values()]) for fold in folds}
    tokenizer = load_policy(settings.adapter.policy)[1]
    tokens = np.array(
        [len(ids) - start for ids, start in tokenize(tokenizer, texts, settings.adapter.max_length).tokens]
    )
    trained, likelihood = {}, {}
    for number, geometry in enumerate(GEOMETRIES):
        inner = getattr(answers, geometry)
        kernel = of_pairs(inner)
        trained[geometry] = train_by_folds(kernel, compared, by_fold, shuffled)
        some = shuffled[:, :_WITH_LIKELIHOOD]
        said = np.column_stack([compared.explicit, some])

        def pushed(train: np.ndarray, inner: np.ndarray = inner, said: np.ndarray = said) -> np.ndarray:
            return _LIKELIHOOD * likelihood_push(inner, said, train, tokens)

        likelihood[geometry] = train_by_folds(kernel, compared, {int(f): said[:, :1] for f in folds}, some, pushed)
        advance(0.9 + 0.1 * (number + 1) / len(GEOMETRIES))
    signs = np.zeros_like(next(iter(by_fold.values())))
    for fold, labels in by_fold.items():
        signs[compared.folds == fold] = labels[compared.folds == fold]
    return FirstOrderResult(compared, names, signs, trained, likelihood)


def train_by_folds(
    kernel: np.ndarray,
    compared: Compared,
    by_fold: dict[int, np.ndarray],
    shuffled: np.ndarray,
    push: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Trained:
    """Train on every labeling, with each fold of workers held out once and the length chosen inside the others.

    Args:
        kernel: (pairs, pairs) see `descend`.
        by_fold: fold -> (pairs, labelings) signs for training without it.
        shuffled: (pairs, permutations) further labelings, the same for all folds.
        push: of a set of training pairs, see `descend`; of the labelings of a fold, then of `shuffled`.
    """
    folds = list(by_fold)
    places = {fold: compared.folds == fold for fold in folds}
    own = next(iter(by_fold.values())).shape[1]
    total = own + shuffled.shape[1]
    right = np.zeros((len(folds), len(LENGTHS), total))
    for at, fold in enumerate(folds):
        for other_at, other in enumerate(folds[:at]):
            train = ~(places[fold] | places[other])
            # Labels made without `fold` are tested on `other`, and the other way round.
            signs = np.column_stack([by_fold[fold], by_fold[other], shuffled])
            pushed = None
            if push is not None:
                each = push(train)
                pushed = np.column_stack([each[:, :own], each])
            margins = descend(kernel, train, Labels.at_their_word(signs), pushed)
            for to, test, columns in (
                (at, other, [*range(own), *range(2 * own, own + total)]),
                (other_at, fold, range(own, own + total)),
            ):
                of_test = signs[places[test]][:, columns]
                right[to] += (hits(margins[:, places[test]][:, :, columns], of_test) * (of_test != 0)).sum(axis=1)
    chosen = right.argmax(axis=1)
    margins = np.zeros((len(LENGTHS), len(kernel), total), np.float32)
    learned = np.zeros(total)
    for at, fold in enumerate(folds):
        train = ~places[fold]
        signs = np.column_stack([by_fold[fold], shuffled])
        found = descend(kernel, train, Labels.at_their_word(signs), push(train) if push is not None else None)
        margins[:, places[fold]] = found[:, places[fold]]
        at_length = np.take_along_axis(found[:, train], chosen[at][None, None], axis=0)[0]
        labeled = signs[train] != 0
        learned += (hits(at_length, signs[train]) * labeled).sum(axis=0) / labeled.sum(axis=0) / len(folds)
    return Trained(margins, chosen, learned)


def hits(margins: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """1 where the answer with the larger reward is the one chosen, 0.5 where neither is larger, else 0; same shape."""
    return np.where(margins == 0, 0.5, margins * signs > 0)


def at_chosen(trained: Trained, folds: np.ndarray) -> np.ndarray:
    """(pairs, labelings) margins at the length that was chosen without the pair's fold, nats."""
    chosen = trained.chosen[np.unique(folds, return_inverse=True)[1]]
    return np.asarray(np.take_along_axis(trained.margins, chosen[None], axis=0)[0])
