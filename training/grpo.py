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

from ifllm_hub.align.runs.run import parse_arguments
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.policy_tuning import GRPOArguments, run_grpo


def main() -> int:
    from trl.trainer.grpo_config import GRPOConfig

    return exit_status(lambda: run_grpo(*parse_arguments(GRPOArguments, GRPOConfig)))


if __name__ == "__main__":
    sys.exit(main())
