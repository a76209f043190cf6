"""TRL's `RewardTrainer` for labels that may be wrong, each with its own probability."""

from typing import Any

import torch
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from ifllm_hub.align.trainer import FLIP_PROB, FlipProbCollator


class SoftLabelRewardTrainer(RewardTrainer):
    r"""Bradley-Terry with soft labels: the column `flip_prob` says how likely a pair is to be the wrong way round.

    With the rewards' difference $d_i = r(chosen) - r(rejected)$ and $P(chosen) = 1-\epsilon_i$, the loss is the cross
    entropy of the model's $\sigma(d_i)$ with that label,

    $$\frac1N\sum_i -(1-\epsilon_i)\log\sigma(d_i) - \epsilon_i\log\sigma(-d_i)
      = \frac1N\sum_i -\log\sigma(d_i) + \epsilon_i d_i,$$

    of which TRL computes the first term. It is smallest at $\sigma(d_i) = 1-\epsilon_i$: the student learns how sure
    its teacher is. TRL's `margin` column asks for a distance instead, which is another loss and has no such minimum.
    """

    args: RewardConfig
    model: Any
    train_dataset: Any
    _signature_columns: Any

    def __init__(self, *, args: RewardConfig, **kwargs: Any) -> None:
        """Take the arguments of TRL's `RewardTrainer`, by name; each data set has the column `flip_prob`."""
        super().__init__(args=args, **kwargs)
        self.data_collator = FlipProbCollator(self.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if FLIP_PROB not in self._signature_columns:
            self._signature_columns.append(FLIP_PROB)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, and with `return_outputs` what the model returned, (2 pairs, 1) logits, chosen first."""
        known = {key: inputs[key] for key in inputs if key != FLIP_PROB}
        loss, outputs = super().compute_loss(model, known, True, num_items_in_batch)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        loss = loss + torch.mean(inputs[FLIP_PROB] * (chosen - rejected))
        return (loss, outputs) if return_outputs else loss
