# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Train a language model on a reward for what it writes: a text reward model that learned from behavior.

First make that model, with training/reward_student.py.

Two steps of a random model on a CPU, to see that it runs:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/grpo.py \
        --config training/recipes/tiny/grpo.yaml --dataset runs/demo/dataset --output_dir runs/demo/grpo \
        --reward_model runs/demo/student --max_steps 2

On all GPUs of a machine, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/grpo.py \
        --config training/recipes/smollm2-135m/grpo.yaml --dataset ORG/ifllm --output_dir smollm2-135m-ifllm-grpo \
        --reward_model ORG/ifllm-student \
        --push_to_hub
"""

import sys
from typing import Any

from trl import GRPOConfig, GRPOTrainer

from ifllm_hub.align.runs.arguments import dataset_commit, parse_arguments
from ifllm_hub.align.runs.lengths import prompts_with_room
from ifllm_hub.align.runs.run import Run, chat_policy, peft_config, save_policy
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.grpo import GRPOArguments, describe_grpo, load_prompts, load_student
from ifllm_hub.preferences.load import subsample
from ifllm_hub.reward.functions import get_behavior_reward


def train(args: GRPOArguments, config: GRPOConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    # Load the rewards: the student's score of any text, and the behavior model's of answers that somebody read.
    commit = dataset_commit(args)
    rewards = [load_student(args), get_behavior_reward()]

    # Load the data: prompts alone, with what was recorded of the two logged answers.
    data = subsample(load_prompts(args.dataset, commit), config.seed, args.train_size, args.test_size)

    # Load the model.
    policy, tokenizer = chat_policy(args.policy, config.seed, args.load_in)

    # Build the trainer. A folder of another run is refused here; an interrupted run continues. Each process draws its
    # answers with random numbers of its own, so the number of processes must stay the same.
    run = Run("grpo", describe_grpo(args, config, data, commit), args, config, recipe, is_cut_freely=False)
    with run.building():
        prompts = prompts_with_room(data, policy, tokenizer, config.max_completion_length or 0)
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=rewards,
            args=run.config,
            train_dataset=prompts["train"],
            eval_dataset=prompts["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
        )

    # Train, with an evaluation before and after.
    run.train(trainer)

    # Save weights, results and card; push them if asked to.
    return run.save_and_push(trainer, lambda folder: save_policy(trainer, args, folder))


def main() -> int:
    return exit_status(lambda: train(*parse_arguments(GRPOArguments, GRPOConfig)))


if __name__ == "__main__":
    sys.exit(main())
