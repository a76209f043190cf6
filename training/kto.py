# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Align a language model with single rated answers.

Two steps of a random model on a CPU, to see that it runs:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/kto.py \
        --config training/recipes/tiny/kto.yaml --dataset runs/demo/dataset --output_dir runs/demo/kto --max_steps 2

On all GPUs of a machine, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/kto.py \
        --config training/recipes/smollm2-135m/kto.yaml --dataset ORG/ifllm --output_dir smollm2-135m-ifllm-kto \
        --push_to_hub
"""

import sys
from typing import Any

from trl import KTOConfig, KTOTrainer

from ifllm_hub.align.runs.arguments import dataset_commit, parse_arguments
from ifllm_hub.align.runs.lengths import check_lengths
from ifllm_hub.align.runs.run import Run, chat_policy, peft_config, save_policy
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.kto import KTOArguments, describe_kto, load_ratings, load_reference


def train(args: KTOArguments, config: KTOConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    # Load the data: single answers, each desirable or not.
    commit = dataset_commit(args)
    data = load_ratings(args, config.seed, commit)

    # Load the model.
    policy, tokenizer = chat_policy(args.policy, config.seed, args.load_in)
    check_lengths(config, policy, args.policy, tokenizer, data)

    # Build the trainer. A folder of another run is refused here; an interrupted run continues. The KL term is estimated
    # from the rows of a micro-batch, so their number must stay the same.
    run = Run("kto", describe_kto(args, config, data, commit), args, config, recipe, is_cut_freely=False)
    with run.building():
        trainer = KTOTrainer(
            model=policy,
            ref_model=load_reference(args, run.config),
            args=run.config,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
        )

    # Train, with an evaluation before and after.
    run.train(trainer)

    # Save weights, results and card; push them if asked to.
    return run.save_and_push(trainer, lambda folder: save_policy(trainer, args, folder))


def main() -> int:
    return exit_status(lambda: train(*parse_arguments(KTOArguments, KTOConfig)))


if __name__ == "__main__":
    sys.exit(main())
