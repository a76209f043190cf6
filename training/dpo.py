# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Align a language model with preference pairs labeled from how people read its answers.

On a CPU, in about a minute (SmolLM2-135M, eight steps):

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/dpo.py \
        --config training/recipes/smollm2-135m-cpu/dpo.yaml --dataset runs/demo/dataset --output_dir runs/demo/policy

On all GPUs of a machine, one epoch, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/dpo.py \
        --config training/recipes/smollm2-135m/dpo.yaml --dataset ORG/ifllm --output_dir smollm2-135m-ifllm \
        --push_to_hub
"""

import sys
from functools import partial
from typing import Any

from ifllm_hub.align.runs.arguments import dataset_commit
from ifllm_hub.align.runs.lengths import check_lengths
from ifllm_hub.align.runs.run import Run, chat_policy, peft_config, save_policy
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages import dpo as stage
from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer


def train(args: stage.DPOArguments, config: FlipProbDPOConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    # Load the data: pairs of answers, each with the probability that its label is wrong.
    commit = dataset_commit(args)
    pairs = stage.load_pairs(args, config, commit)

    # Load the model.
    policy, tokenizer = chat_policy(args.policy, config.seed, args.load_in)
    check_lengths(config, policy, args.policy, tokenizer, pairs)

    # Build the trainer. A folder of another run is refused here; an interrupted run continues.
    setup = stage.describe_dpo(args, config, pairs, commit)
    config.label_smoothing = 0.0  # the trainer reads the column `flip_prob` and nothing else
    run = Run("dpo", setup, args, config, recipe, is_cut_freely=True)
    with run.building():
        reference, pairs = stage.load_reference(args, run.config), stage.shared_copy(pairs, run.config)
        trainer = FlipProbDPOTrainer(
            model=policy,
            ref_model=reference,
            args=run.config,
            train_dataset=pairs["train"],
            eval_dataset=pairs["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
            stored_reference=stage.stored_reference(policy, run.config),
        )
        if args.cut_answers:  # as the paper's released code does
            stage.cut_data(trainer, tokenizer)

    # Train, with an evaluation before and after.
    run.train(trainer)

    # Save weights, results and card; push them if asked to.
    measured = stage.count_truncated(trainer)
    save = partial(save_policy, trainer, args)
    return run.save_and_push(trainer, save, metrics=stage.METRICS, measured=measured)


def main() -> int:
    return exit_status(lambda: train(*stage.parse_dpo()))


if __name__ == "__main__":
    sys.exit(main())
