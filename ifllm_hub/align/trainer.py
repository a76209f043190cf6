"""TRL's `DPOTrainer` with a flip probability for each pair: robust DPO plus the likelihood of the chosen answer.

It replaces the loss of TRL 1.16 and nothing else: the loss through the public `compute_loss`, the extra column through
the private `_set_signature_columns_if_needed` and `_prepare_dataset`, stored log-probabilities of the reference through
the private `_precompute_ref_logps`. `tests/align/test_trainer.py` checks what this relies on, and pyproject.toml pins
TRL's minor version.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, concatenate_datasets
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from ifllm_hub.align.stored_reference import StoredReference, answer_keys
from ifllm_hub.errors import IfllmError

FLIP_PROB = "flip_prob"
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
# Settings of DPOConfig that change the loss in ways that are not defined here: the one value accepted, and why.
FIXED = {
    "loss_type": (["robust"], "Plain DPO is flip_prob 0 for every pair; TRL's `sft` is --nll token_mean."),
    "label_smoothing": (
        0.0,
        "The column flip_prob gives it for each pair; for a single value, write it into every row.",
    ),
    "ld_alpha": (None, "Length-desensitized DPO has no robust form here."),
    "f_divergence_type": ("reverse_kl", "The robust loss is defined for that divergence only."),
    "use_weighting": (False, "Weights of WPO would hide those of the flip probabilities."),
    "use_liger_kernel": (False, "Its fused loss hides the log-probabilities of the pairs, and TRL deprecates it."),
}


@dataclass
class FlipProbDPOConfig(DPOConfig):
    """TRL's `DPOConfig` with the three settings of `FlipProbDPOTrainer`; `loss_weights` is [weight of the robust term].

    `loss_weights=[0.0]` leaves only the likelihood of the chosen answer, the control without preferences.
    """

    loss_type: list[str] = field(
        default_factory=lambda: ["robust"], metadata={"help": "`robust`, the one loss with a flip probability."}
    )
    nll: Literal["token_mean", "token_sum", "none"] = field(
        default="token_mean",
        metadata={"help": "NLL of a chosen answer: mean over its tokens, sum over them (the paper), or no such term."},
    )
    nll_weight: float = field(default=1.0, metadata={"help": "Weight of the NLL term; the paper's alpha."})
    flip_weighting: Literal["none", "inverse_variance"] = field(
        default="inverse_variance",
        metadata={"help": "`inverse_variance`: a pair's robust loss counts by (1 - 2 flip_prob)^2, on average 1."},
    )


class FlipProbDPOTrainer(DPOTrainer):
    r"""Robust DPO (https://huggingface.co/papers/2403.00409) with a flip probability for each pair.

    Pair i has the margin $z_i = \beta[(\log\pi-\log\pi_{ref})(chosen) - (\log\pi-\log\pi_{ref})(rejected)]$, the flip
    probability $\epsilon_i \in [0, 1/2)$ from the column `flip_prob`, and a chosen answer of $T_i$ tokens. The loss is

    $$\frac1N\sum_i a\,w_i\,\ell_i + \alpha\,n_i,\qquad
      \ell_i = \frac{-(1-\epsilon_i)\log\sigma(z_i)+\epsilon_i\log\sigma(-z_i)}{1-2\epsilon_i}$$

    with $a$ = `loss_weights[0]`, $\alpha$ = `nll_weight`, and $n_i = -\sum_t\log\pi(y_t)$ (`token_sum`, as in IFLLM,
    https://huggingface.co/papers/2606.20482) or that divided by $T_i$ (`token_mean`). It is a mean over *pairs*, so it
    does not depend on how the pairs of a step are divided among equal micro-batches and processes. TRL's `sft` is a
    mean over the tokens of a micro-batch, which does; the two agree where answers are equally long.

    **Weighting.** $\ell_i$ is unbiased: over the label noise its mean is the DPO loss of the true label. The price is
    variance. The derivative $\partial\ell_i/\partial z_i = \sigma(z_i)-\frac{1-\epsilon_i}{1-2\epsilon_i}$ is
    $-\frac{1}{2(1-2\epsilon_i)}$ at $z_i=0$: DPO's times $1/(1-2\epsilon_i)$, 10 at .45, so pairs near a coin flip push
    hardest. Between a right and a flipped label it differs by $1/(1-2\epsilon_i)$, at every $z_i$, so that the noise
    adds $\epsilon_i(1-\epsilon_i)/(1-2\epsilon_i)^2$ to the 1/4 a clean label of unknown direction has at $z_i=0$:

    $$\mathrm{Var}_i = \frac14+\frac{\epsilon_i(1-\epsilon_i)}{(1-2\epsilon_i)^2} = \frac{1}{4(1-2\epsilon_i)^2}.$$

    Of all weights with mean 1, those in proportion to $1/\mathrm{Var}_i$ give the mean the least variance:
    `inverse_variance` is $w_i=(1-2\epsilon_i)^2/\frac1M\sum_j(1-2\epsilon_j)^2$ over the M training pairs, and a pair
    pushes in proportion to $1-2\epsilon_i$. `none` is $w_i=1$. The NLL term is not weighted. With one flip probability
    for all pairs the two are the same.

    Logged beside TRL's metrics: `flip_prob/mean` and `nll`, the mean $n_i$ (`token_mean` if the term is off).

    Examples:
        >>> from ifllm_hub.align.policies import load_policy
        >>> from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer
        >>> from ifllm_hub.preferences.load import load_preferences
        >>> policy, tokenizer = load_policy("tiny")
        >>> trainer = FlipProbDPOTrainer(
        ...     model=policy,
        ...     ref_model=load_policy("tiny")[0],
        ...     args=FlipProbDPOConfig("policy", max_steps=1, max_length=64, use_cpu=True, disable_tqdm=True),
        ...     train_dataset=load_preferences("ifllm", "forest")["train"],
        ...     processing_class=tokenizer,
        ... )
        >>> trainer.train().global_step  # doctest: +ELLIPSIS
        {...}
        1
    """

    args: FlipProbDPOConfig
    model: Any
    train_dataset: Any
    _signature_columns: Any

    def __init__(
        self, *, args: FlipProbDPOConfig, stored_reference: StoredReference | None = None, **kwargs: Any
    ) -> None:
        """Take the arguments of TRL's `DPOTrainer`, by name.

        Args:
            args: the configuration.
            stored_reference: with `precompute_ref_log_probs`, where the log-probabilities of the reference are looked
                up, and what is missing is added; None asks the reference about every pair.
            kwargs: as for `DPOTrainer`; each data set is a `datasets.Dataset` with the column `flip_prob`.

        Raises:
            IfllmError: a flip probability is missing or outside [0, 0.5), or a setting is not defined for this loss.
        """
        for name, (accepted, reason) in FIXED.items():
            # TRL 2 drops `use_liger_kernel`.
            value = getattr(args, name, accepted)
            if value != accepted:
                raise IfllmError(f"{name} is {value!r}, but must be {accepted!r} here. {reason}")
        self._stored_reference = stored_reference
        super().__init__(args=args, **kwargs)
        # TRL adds up the losses named here; with none it returns only other terms, such as the router loss of an MoE.
        self.loss_types, self.loss_weights = [], []
        # Set after the reference log-probabilities are precomputed: TRL would pass the new column on to the model.
        self.data_collator = FlipProbCollator(self.data_collator)
        train_flips = torch.tensor(self.train_dataset[FLIP_PROB])
        self._mean_precision = (1 - 2 * train_flips).square().mean().item()

    def pair_losses(
        self, margin: torch.Tensor, nll: torch.Tensor, flip_prob: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of the loss for each pair, weighted; the loss is the mean of their sum.

        Args:
            margin: (pairs,) z, in nats.
            nll: (pairs,) of the chosen answers, in nats.
            flip_prob: (pairs,) in [0, 0.5).

        Returns the robust term and the NLL term, both (pairs,).
        """
        clean = 1 - 2 * flip_prob
        weighted = self.args.flip_weighting == "inverse_variance"
        scale = clean / self._mean_precision if weighted else 1 / clean
        robust = scale * (flip_prob * F.logsigmoid(-margin) - (1 - flip_prob) * F.logsigmoid(margin))
        (robust_weight,) = self.args.loss_weights or [1.0]
        return robust_weight * robust, (0.0 if self.args.nll == "none" else self.args.nll_weight) * nll

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed log-probabilities of the chosen and the rejected answers under the reference, both (pairs,)."""
        return super().compute_ref_log_probs(model, {key: inputs[key] for key in inputs if key != FLIP_PROB})

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if FLIP_PROB not in self._signature_columns:
            self._signature_columns.append(FLIP_PROB)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        _check_flip_prob(dataset, dataset_name)
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        ask = super()._precompute_ref_logps
        if self._stored_reference is None:
            return ask(dataset, name, batch_size)

        def asked(rows: list[int]) -> np.ndarray:
            answered = ask(dataset.select(rows), name, batch_size)
            return np.column_stack([answered[column] for column in REFERENCE])

        answers = np.array([answer_keys(self.data_collator([row])) for row in dataset])
        found = self._stored_reference.log_probs(answers, asked)
        columns = Dataset.from_dict(dict(zip(REFERENCE, found.T, strict=True)))
        return concatenate_datasets([dataset, columns], axis=1)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, a scalar in nats, and with `return_outputs` what the model returned."""
        mode = "train" if self.model.training else "eval"
        flip_prob, inputs = inputs[FLIP_PROB], {key: inputs[key] for key in inputs if key != FLIP_PROB}
        stored = self.precompute_ref_logps
        if not stored:
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs = inputs | dict(zip(REFERENCE, reference, strict=True))
        outputs: list[Any] = []

        def policy(**kwargs: Any) -> Any:
            outputs.append(model(**kwargs))
            return outputs[-1]

        # TRL runs the policy and logs its metrics; what the policy returns is kept for the loss.
        self.precompute_ref_logps = True
        try:
            result = super().compute_loss(policy, inputs, return_outputs, num_items_in_batch)
        finally:
            self.precompute_ref_logps = stored
        completion = inputs["completion_mask"][:, 1:]
        chosen, rejected = outputs[0].log_probs[:, -completion.shape[1] :].sum(dim=1).chunk(2)
        margin = self.beta * ((chosen - inputs["ref_chosen_logps"]) - (rejected - inputs["ref_rejected_logps"]))
        tokens = completion.sum(dim=1).chunk(2)[0].clamp(min=1)
        nll = -chosen if self.args.nll == "token_sum" else -chosen / tokens
        for name, values in (("flip_prob/mean", flip_prob), ("nll", nll.detach())):
            self._metrics[mode][name].append(self.accelerator.gather(values).mean().item())
        robust_term, nll_term = self.pair_losses(margin, nll, flip_prob)
        loss = (robust_term + nll_term).mean() + (result[0] if return_outputs else result)
        return (loss, result[1]) if return_outputs else loss


@dataclass
class FlipProbCollator:
    """A collator for preference pairs that also returns `flip_prob`, (pairs,) float32."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        flips = torch.tensor([example[FLIP_PROB] for example in examples], dtype=torch.float32)
        return self.collator(examples) | {FLIP_PROB: flips}


def _check_flip_prob(dataset: Any, name: str) -> None:
    if not isinstance(dataset, Dataset):
        raise IfllmError(
            f"The {name} data are a {type(dataset).__name__}, but every flip probability is checked before the first "
            "step, and an IterableDataset cannot be read ahead. Give a datasets.Dataset."
        )
    if FLIP_PROB not in dataset.column_names:
        raise IfllmError(
            f"The {name} data have no column {FLIP_PROB!r}. Add it: the probability in [0, 0.5) that chosen and "
            "rejected are the wrong way round, 0 for trusted labels."
        )
    for row, flip in enumerate(dataset[FLIP_PROB]):
        if flip is None or not 0 <= flip < 0.5:
            question = f" (question_id {dataset[row]['question_id']})" if "question_id" in dataset.column_names else ""
            raise IfllmError(
                f"flip_prob is {flip} in row {row}{question} of the {name} data, but must lie in [0, 0.5): at 0.5 a "
                "label says nothing. Drop the pair; above 0.5, swap chosen and rejected and take 1 - flip_prob."
            )
