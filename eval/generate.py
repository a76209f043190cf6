# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train,eval]"]
# ///
r"""Let a language model answer questions of workers who are in no training data, like `ifllm generate`.

On a CPU, eight prompts with what the LLM had seen of the conversation, in about a minute (SmolLM2-135M):

    OMP_NUM_THREADS=1 python eval/generate.py --model smollm2-135m --dataset runs/demo/dataset --prompts 8 \
        --history chosen_side --max-new-tokens 64 --output runs/demo/evaluation/smollm2.parquet

A checkpoint of the alignment stage on the paper's prompts, with vLLM if it is installed:

    python eval/generate.py --model ORG/qwen3-1.7b-ifllm --dataset ORG/ifllm --questions pointwise --prompts 300 \
        --batch-size 64 --output evaluation/qwen3-1.7b-ifllm.parquet

A second run generates only the answers that are missing.
"""

import sys

from ifllm_hub.align.runs.script import exit_status, parse_flags
from ifllm_hub.evaluation.generation.generate import GenerateArguments, run_generate


def main() -> int:
    return exit_status(lambda: run_generate(parse_flags(GenerateArguments)))


if __name__ == "__main__":
    sys.exit(main())
