# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Fine-tune a language model on the answers that people read side by side, before preference optimization.

Two steps of a random model on a CPU, to see that it runs:

    OMP_NUM_THREADS=1 accelerate launch --config_file training/accelerate/cpu.yaml training/sft.py \
        --config training/recipes/tiny/sft.yaml --dataset runs/demo/dataset --output_dir runs/demo/sft --max_steps 2

On all GPUs of a machine, pushed to the Hub at the end:

    accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 8 training/sft.py \
        --config training/recipes/smollm2-135m/sft.yaml --dataset ORG/ifllm --output_dir smollm2-135m-ifllm-sft \
        --push_to_hub
"""

import sys

from ifllm_hub.align.runs.run import parse_arguments
from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.align.stages.policy_tuning import SFTArguments, run_sft


def main() -> int:
    from trl.trainer.sft_config import SFTConfig

    return exit_status(lambda: run_sft(*parse_arguments(SFTArguments, SFTConfig)))


if __name__ == "__main__":
    sys.exit(main())
