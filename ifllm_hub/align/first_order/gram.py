r"""Inner products of the answers' gradients, in the geometry of plain gradient descent and in Adam's.

Plain: $G_{ij} = \langle\phi_i,\phi_j\rangle$. Adam divides each parameter's step by the root of a running mean of its
squared gradient (https://huggingface.co/papers/1412.6980). At the start of DPO that gradient is, for pair i and either
label, $\mp\frac\beta2(\phi_{left}-\phi_{right})$, so that its mean square does not depend on labels:
$G_{ij} = \sum_p \phi_{ip}\phi_{jp}/\sqrt{v_p}$ with $v_p$ the mean over pairs of $(\phi_{left}-\phi_{right})_p^2$. This
is for one pair a step; of more pairs the mean, which labels move, has a part in $v$ that is left out. All pairs have a
part in it, those tested on too, but none of their labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ifllm_hub.align.first_order.gradients import KEY

# Memory for a block of parameters of all answers, in float32, and there are three such blocks at a time.
_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Gram:
    """Inner products of all answers' gradients, (answers, answers) float64, nats^2.

    Attributes:
        plain: of gradient descent.
        adam: with Adam's geometry.
    """

    plain: np.ndarray
    adam: np.ndarray


def gram(files: Sequence[Path]) -> Gram:
    """Of the files of `answer_gradients`; a parameter that no pair moves has no part in either.

    Memory: about 800 MB, two matrices of (answers, answers) float64, and the files, mapped.
    """
    import torch
    from safetensors import safe_open

    opened = [safe_open(file, framework="pt").get_slice(KEY) for file in files]
    answers, parameters = sum(part.get_shape()[0] for part in opened), opened[0].get_shape()[1]
    width = max(1, _BLOCK_BYTES // (4 * answers))
    plain, adam = (torch.zeros(answers, answers, dtype=torch.float64) for _ in range(2))
    for start in range(0, parameters, width):
        block = torch.cat([part[:, start : start + width] for part in opened]).float()
        mean_square = (block[::2] - block[1::2]).square().mean(0)
        plain += block @ block.T
        adam += (block * torch.where(mean_square > 0, mean_square, torch.inf).rsqrt()) @ block.T
    return Gram(plain.numpy(), adam.numpy())


def of_pairs(answers: np.ndarray) -> np.ndarray:
    """(pairs, pairs) inner products of what the left answers' gradients have more than the right ones'."""
    left, right = slice(None, None, 2), slice(1, None, 2)
    return answers[left, left] - answers[left, right] - answers[right, left] + answers[right, right]
