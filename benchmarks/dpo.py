"""What a training step costs: `FlipProbDPOTrainer` against TRL's own `DPOTrainer` with `["robust", "sft"]`.

make bench                                                           # the tiny policy
python benchmarks/dpo.py --policy smollm2-135m --repeats 6           # a real one

A step is collating, both forward passes, the backward pass, the metrics and AdamW. The two trainers take turns, step by
step on the same pairs and with the order swapped every time, in one thread; the first steps do not count.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table
from trl import DPOConfig, DPOTrainer

from ifllm_hub.align.policies import SAMPLE, load_policy
from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer

PAIRS = 8
WARM_UP = 2
CLOCKS: dict[str, Callable[[], float]] = {"CPU time": time.process_time, "elapsed time": time.perf_counter}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    rows, rng = pairs(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        ours = trainer(FlipProbDPOTrainer, FlipProbDPOConfig(scratch, **settings()), arguments.policy, rows)
        robust_sft = {"loss_type": ["robust", "sft"], "label_smoothing": 0.2}
        trl = trainer(DPOTrainer, DPOConfig(scratch, **settings(), **robust_sft), arguments.policy, rows)
        took = np.empty((arguments.repeats, 2, len(CLOCKS)))
        for repeat in range(-WARM_UP, arguments.repeats):
            first = int(rng.integers(PAIRS - 1))
            for which in (0, 1) if repeat % 2 else (1, 0):
                spent = step((ours, trl)[which], [first, first + 1])
                if repeat >= 0:
                    took[repeat, which] = spent
    table = Table("policy", "clock", "ours", "TRL", "ratio (95 %)", "middle half of the ratios")
    for clock, name in enumerate(CLOCKS):
        ratios = took[:, 0, clock] / took[:, 1, clock]
        resampled = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
        low, high = np.quantile(resampled, [0.025, 0.975])
        table.add_row(
            arguments.policy,
            name,
            *(f"{1_000 * np.median(took[:, which, clock]):.1f} ms" for which in (0, 1)),
            f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})",
            "{:.2f} to {:.2f}".format(*np.quantile(ratios, [0.25, 0.75])),
        )
    table.caption = f"medians of {arguments.repeats} steps of two pairs; the interval is a bootstrap over steps"
    Console(width=110).print(table)


def settings() -> dict[str, Any]:
    return {
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "report_to": "none",
        "max_length": 512,
        "learning_rate": 1e-6,
    }


def pairs() -> Dataset:
    """Pairs with answers of 100 to 300 words, about as long as those of the release."""
    words, rng = SAMPLE.split(), np.random.default_rng(0)

    def answer() -> list[dict[str, str]]:
        return [{"role": "assistant", "content": " ".join(rng.choice(words, rng.integers(100, 300)))}]

    prompt = [{"role": "user", "content": "What should I cook this evening for four friends?"}]
    return Dataset.from_list(
        [
            {"prompt": prompt, "chosen": answer(), "rejected": answer(), "flip_prob": rng.uniform(0, 0.45)}
            for _ in range(PAIRS)
        ]
    )


def trainer(kind: Any, config: Any, policy: str, rows: Dataset) -> Any:
    (model, tokenizer), (reference, _) = load_policy(policy), load_policy(policy)
    built = kind(model=model, ref_model=reference, args=config, train_dataset=rows, processing_class=tokenizer)
    built.create_optimizer()
    built.current_gradient_accumulation_steps = 1
    return built


def step(trainer: Any, rows: list[int]) -> list[float]:
    """Seconds on each clock of one optimizer step on the pairs with these row numbers."""
    examples = [trainer.train_dataset[row] for row in rows]
    started = [clock() for clock in CLOCKS.values()]
    trainer.training_step(trainer.model, trainer.data_collator(examples))
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return [clock() - start for clock, start in zip(CLOCKS.values(), started, strict=True)]


if __name__ == "__main__":
    main()
