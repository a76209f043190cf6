"""How many tokens a CPU second each way to learn from pairs takes: DPO in TRL's trainer, without it, to first order.

make bench                                                                             # the tiny policy
python -m benchmarks.alignment --policy smollm2-135m --layers 10 --repeats 3           # a real one

All ways have a LoRA adapter on the same last layers, read the same whole answers, and take turns, in one thread. Tokens
are those of prompts and answers, without padding.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import polars as pl
import torch
from datasets import disable_progress_bars
from rich.console import Console
from rich.table import Table

from benchmarks.dpo import PAIRS, pairs, settings, step
from eval.studies.real_training import Training
from ifllm_hub.align.first_order.gradients import SEED, Adapter, gradients, tokenize, with_adapter
from ifllm_hub.align.policies import load_policy, lora_config
from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="tiny")
    parser.add_argument("--layers", type=int, default=1, help="the last ones, which are trained")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    adapter = Adapter(options.policy, options.layers)
    rows = (
        pl.DataFrame(pairs().to_polars()).rename({"chosen": "left", "rejected": "right"}).with_row_index("question_id")
    )
    training = Training(rows, adapter)
    with tempfile.TemporaryDirectory() as scratch:
        ways: dict[str, Callable[[], object]] = {
            "TRL, live reference": dpo(adapter, scratch, stored=False),
            "TRL, stored reference": dpo(adapter, scratch, stored=True),
            "hidden states and reference, once": lambda: Training(rows, adapter),
            "from these hidden states": lambda: training.train(dict.fromkeys(range(PAIRS), True), 1e-6),
            "gradient of each answer": first_order(adapter),
        }
        rates = np.empty((len(ways), options.repeats))
        for repeat in range(-1, options.repeats):  # the first does not count
            for way, work in enumerate(ways.values()):
                started = time.process_time()
                work()
                if repeat >= 0:
                    rates[way, repeat] = training.tokens / (time.process_time() - started)
    table = Table("policy", "layers trained", "way", "tokens a CPU second", "all runs")
    for name, measured in zip(ways, rates, strict=True):
        spread = f"{measured.min():,.0f} to {measured.max():,.0f}"
        table.add_row(options.policy, str(options.layers), name, f"{np.median(measured):,.0f}", spread)
    table.caption = f"medians of {options.repeats} runs over {PAIRS} pairs of {training.tokens:,} tokens"
    Console(width=110).print(table)


def dpo(adapter: Adapter, folder: str, stored: bool) -> Callable[[], None]:
    """An epoch in TRL's trainer, two pairs a step."""
    model, tokenizer = load_policy(adapter.policy)
    trainer = FlipProbDPOTrainer(
        model=model,
        args=FlipProbDPOConfig(folder, nll="none", precompute_ref_log_probs=stored, **settings()),
        train_dataset=pairs(),
        processing_class=tokenizer,
        peft_config=lora_config(model, adapter.rank, 2 * adapter.rank, adapter.layers),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1

    def epoch() -> None:
        for row in range(0, PAIRS, 2):
            step(trainer, [row, row + 1])

    return epoch


def first_order(adapter: Adapter) -> Callable[[], None]:
    """The gradient of every answer (`ifllm_hub.align.first_order`)."""
    model, tokenizer = load_policy(adapter.policy, SEED)
    answers = tokenize(tokenizer, pairs().rename_columns({"chosen": "left", "rejected": "right"}), adapter.max_length)
    prepared = with_adapter(model, adapter, answers.vocabulary)

    def every_answer() -> None:
        for _ in gradients(*prepared, answers.tokens):
            pass

    return every_answer


if __name__ == "__main__":
    main()
