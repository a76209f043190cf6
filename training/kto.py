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

from ifllm_hub.align.runs.run import parse_arguments
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.policy_tuning import KTOArguments, run_kto


def main() -> int:
    from trl.trainer.kto_config import KTOConfig

    return exit_status(lambda: run_kto(*parse_arguments(KTOArguments, KTOConfig)))


if __name__ == "__main__":
    sys.exit(main())
