r"""Training to the first order: descent on any preference loss, from the Gram matrix of the pairs.

Pair i has $\Delta_i=\phi_{left}-\phi_{right}$ (`gradients`), and the margin of the left answer, in nats, is
$m_i=\beta\langle\Delta_i,dB\rangle$. A loss $\sum_i\ell_i(m_i)$ changes $dB$ only along the $\Delta_i$ of training
pairs: with $dB=\beta\sum_jc_j\Delta_j$ a step of gradient descent at learning rate $\eta$ is

$$c_i\leftarrow c_i-\eta\,\ell_i'(m_i),\qquad m=\beta^2Kc,\quad K_{ij}=\langle\Delta_i,\Delta_j\rangle.$$

These are n numbers instead of all weights, exactly the same trajectory as long as $\log\pi$ is linear in $dB$, and
$\beta$ only scales $\eta$. With Adam's geometry in $K$ it is descent with Adam's diagonal fixed at its start.

The loss of a pair is that of `FlipProbDPOTrainer`, with the label as sign $s$, flip probability $\epsilon$ and
$z=s\,m$: $\ell'=s\,w\,(\sigma(z)-\frac{1-\epsilon}{1-2\epsilon})$, $w$ = 1 or proportional to $(1-2\epsilon)^2$. The
likelihood of the chosen answers pushes with a constant: to the first order, its gradient does not change.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

# Steps after which margins are kept: from the direction of the first gradient to labels learned by heart.
LENGTHS = (1, 3, 10, 30, 100, 300)


@dataclass(frozen=True)
class Labels:
    """Any number of labelings of the same pairs.

    Attributes:
        signs: (pairs, labelings) int8: 1 where the left answer is chosen, -1 where the right one is, 0 without a label.
        flips: (pairs, labelings) flip probability in [0, 0.5).
        weighting: see `FlipProbDPOConfig.flip_weighting`.
    """

    signs: np.ndarray
    flips: np.ndarray
    weighting: Literal["none", "inverse_variance"] = "none"

    @classmethod
    def at_their_word(cls, signs: np.ndarray) -> "Labels":
        """With flip probability 0 everywhere."""
        return cls(signs, np.zeros(signs.shape))


def descend(
    kernel: np.ndarray,
    train: np.ndarray,
    labels: Labels,
    push: np.ndarray | None = None,
    lengths: tuple[int, ...] = LENGTHS,
    speed: float = 1.0,
) -> np.ndarray:
    """Margins of all pairs after training on some of them.

    The learning rate is the largest at which descent on no labeling can overshoot: 1 over the largest curvature there
    is, that is, of a quarter of the largest eigenvalue of `kernel`, times the largest weight of a label.

    Args:
        kernel: (pairs, pairs) K, see `of_pairs`.
        train: (pairs,) bool: which pairs are trained on.
        labels: of all pairs; those of pairs that are not trained on are not looked at.
        push: (pairs, labelings) how the gradient of a further, linear loss moves each margin; None for no such loss.
        lengths: numbers of steps, ascending.
        speed: share of the largest learning rate to take.

    Returns:
        (lengths, pairs, labelings) float32, nats: of the left answer.

    Examples:
        >>> import numpy as np
        >>> from ifllm_hub.align.first_order.descent import Labels, descend
        >>> kernel = np.array([[2.0, 1.0, -1.0], [1.0, 2.0, 0.0], [-1.0, 0.0, 2.0]])
        >>> labels = Labels.at_their_word(np.array([[1], [1], [0]], dtype=np.int8))
        >>> descend(kernel, np.array([True, True, False]), labels, lengths=(1,))[0, :, 0].round(2)
        array([ 2.  ,  2.  , -0.67], dtype=float32)
    """
    signs = np.where(train[:, None], labels.signs, 0)[train].astype(np.float32)
    target, weight = _slopes(labels.flips[train], signs != 0, labels.weighting)
    among = np.ascontiguousarray(kernel[np.ix_(train, train)], np.float32)
    rate = np.float32(speed * 4 / (np.linalg.eigvalsh(kernel[np.ix_(train, train)])[-1] * weight.max()))
    further = None if push is None else rate * push.astype(np.float32)
    found = np.empty((len(lengths), len(kernel), signs.shape[1]), np.float32)
    coefficients = np.zeros_like(signs)
    onto = np.ascontiguousarray(kernel[:, train], np.float32)
    done = 0
    for kept, length in enumerate(lengths):
        for step in range(done, length):
            margins = among @ coefficients
            if further is not None:
                margins += step * further[train]
            coefficients += rate * weight * signs * (target - _sigmoid(signs * margins))
        done = length
        found[kept] = onto @ coefficients
        if further is not None:
            found[kept] += length * further
    return found


def _slopes(flips: np.ndarray, labeled: np.ndarray, weighting: str) -> tuple[np.ndarray, np.ndarray]:
    """(1 - e) / (1 - 2 e), and the weights, 0 without a label."""
    clean = (1 - 2 * flips).astype(np.float32)
    weight = labeled.astype(np.float32)
    if weighting == "inverse_variance":
        weight *= clean**2
        weight *= labeled.sum(axis=0) / weight.sum(axis=0)
    return (1 - flips.astype(np.float32)) / clean, weight


def _sigmoid(values: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(values))


def likelihood_push(answers: np.ndarray, signs: np.ndarray, train: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """How the mean log-likelihood of a token of the chosen answers, added up over training pairs, moves margins.

    It is `nll: token_mean` of `FlipProbDPOConfig`, in units of $1/\\beta$: multiply by `nll_weight` over beta.

    Args:
        answers: (2 pairs, 2 pairs) Gram matrix, left answers first of each pair.
        signs: (pairs, labelings) see `Labels`.
        train: (pairs,) bool.
        tokens: (2 pairs,) tokens of each answer.

    Returns:
        (pairs, labelings).
    """
    chosen = np.zeros((len(answers), signs.shape[1]))
    chosen[::2], chosen[1::2] = (signs > 0) & train[:, None], (signs < 0) & train[:, None]
    moved = answers @ (chosen / tokens[:, None])
    return np.asarray(moved[::2] - moved[1::2])
