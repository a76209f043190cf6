# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train,eval]"]
# ///
r"""Let a language model judge answers, in both orders, over the OpenAI chat API, like `ifllm judge`.

Any server will do; here on a CPU with SmolLM2-135M, which is far too small to be a good judge:

    transformers serve HuggingFaceTB/SmolLM2-135M-Instruct --port 8000 &
    python eval/judge.py --judge HuggingFaceTB/SmolLM2-135M-Instruct --base-url http://127.0.0.1:8000/v1 \
        --model-answers runs/demo/evaluation/dpo.parquet --baseline-answers runs/demo/evaluation/sft.parquet \
        --llm smollm2-135m --label-source forest --output runs/demo/evaluation/judged.parquet

How far a judge on the Hub agrees with people, on 100 pairs of the dataset:

    python eval/judge.py --judge Qwen/Qwen3-32B --dataset ORG/ifllm --pairs 100 --history shared_user_turns \
        --output evaluation/qwen3-on-people.parquet

A stopped run continues where it was; --dry-run shows the prompt and asks nothing.
"""

import sys

from ifllm_hub.align.runs.script import exit_status, parse_flags
from ifllm_hub.evaluation.judge.run import JudgeArguments, run_judge


def main() -> int:
    return exit_status(lambda: run_judge(parse_flags(JudgeArguments)))


if __name__ == "__main__":
    sys.exit(main())
