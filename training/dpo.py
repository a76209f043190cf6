# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Align a language model with preference pairs labeled from how people read its answers.

On a CPU, in about two minutes (SmolLM2-135M, eight steps):

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/dpo.py \
        --config training/recipes/smollm2-135m-cpu/dpo.yaml --dataset runs/demo/dataset --output_dir runs/demo/policy

On all GPUs of a machine, one epoch, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/dpo.py \
        --config training/recipes/smollm2-135m/dpo.yaml --dataset ORG/ifllm --output_dir smollm2-135m-ifllm \
        --push_to_hub
"""

import sys

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.dpo import parse_dpo, run_dpo


def main() -> int:
    return exit_status(lambda: run_dpo(*parse_dpo()))


if __name__ == "__main__":
    sys.exit(main())
