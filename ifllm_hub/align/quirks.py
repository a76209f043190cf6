"""What the paper's released code does differently, one switch each, so that its effect can be measured.

The code is https://github.com/themehulpatwari/llm-implicit-feedback at 923bac0. All switches are off by default; the
recipe `paper` turns them on in its `dpo-reference.yaml`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.runs.push import result_of
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

# The paper caps its flip probability here.
CAP = 0.45
MAX_TOKENS = 512
MAX_PROMPT_TOKENS = 256
# Labels without a confidence: the released code trains on them with plain DPO.
WITHOUT_CONFIDENCE = ("explicit", "shuffled")

# The value of `base_reference` for the model that the policy's folder was made from.
OF_POLICY = "of_policy"

FlipProbRule = Literal["other_side", "decision_time", "left_side"]


@dataclass(kw_only=True)
class ReferenceQuirks:
    """The switches, as flags of `training/dpo.py`."""

    invert_labels: bool = field(
        default=False,
        metadata={
            "help": "Swap chosen and rejected: the released code's loader reads label 1 of a pair, `response_2 is "
            "better`, as `response_1 is better`."
        },
    )
    base_reference: str | None = field(
        default=None,
        metadata={
            "help": "The reference model for labels with a confidence (rDPO), instead of the policy as it starts: the "
            "released code loads its SFT checkpoint into the reference model only for the losses dpo and ipo. "
            "of_policy: the model that the policy's folder was made from."
        },
    )
    flip_prob_rule: FlipProbRule = field(
        default="other_side",
        metadata={
            "help": "other_side: the probability of the answer that is not chosen. decision_time: for readers' own "
            "labels, by how long each took (no quirk of the released code). left_side: that of the left answer, at "
            "most .45, for the labels of forests: the released code takes P(class 1) for the confidence."
        },
    )
    cut_answers: bool = field(
        default=False,
        metadata={
            "help": "Tokenize prompt and answers apart; if the longer answer does not fit into 512 tokens, cut the "
            "prompt to 256, and if that is not enough, both answers to 256, without their end."
        },
    )

    def on(self) -> dict[str, Any]:
        """The switches that are on, by name; the rule `decision_time` is no quirk."""
        off = ReferenceQuirks()
        names = ReferenceQuirks.__dataclass_fields__
        values = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(off, name)}
        return {name: value for name, value in values.items() if value != "decision_time"}


def quirky_pairs(
    pairs: "DatasetDict", quirks: ReferenceQuirks, label_source: str, dataset: str, revision: str | None = None
) -> "DatasetDict":
    """The pairs of `load_preferences` with the flip probabilities and the polarity of the released code.

    Args:
        pairs: splits with `question_id`, `chosen`, `rejected`, `flip_prob`.
        label_source: whose labels they are; the rule `left_side` changes those of forests only.
        dataset: where the config `pairwise` tells the left answer from the right one.

    Raises:
        IfllmError: `pairwise` cannot be read, or lacks one of the pairs.
    """
    if quirks.flip_prob_rule == "left_side" and label_source.startswith("forest"):
        left = dict(load_config(dataset, "pairwise", revision).select("question_id", "response_left").iter_rows())
        pairs = pairs.map(lambda row: {"flip_prob": _left_side(row, left, dataset)})
    if quirks.invert_labels:
        pairs = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    return pairs


def reference_policy(policy: str, quirks: ReferenceQuirks, label_source: str) -> str:
    """The policy to load as the reference model: `policy`, or the base model where the released code skips the SFT."""
    if quirks.base_reference is None or label_source in WITHOUT_CONFIDENCE:
        return policy
    return quirks.base_reference


def base_of(policy: str) -> str:
    """The model that a policy's folder was made from, according to its `results.json`.

    Raises:
        IfllmError: the policy is not the folder of a run.
    """
    base = result_of(policy, "model")
    if base is None:
        raise IfllmError(
            f"base_reference is {OF_POLICY}, but {policy} is not a folder that a training script wrote. Name the base "
            "model (--base_reference)."
        )
    return base


def cut_answers(pairs: "Dataset", tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """The pairs that TRL has tokenized, tokenized and cut again as the released code does.

    Args:
        pairs: conversational `prompt`, `chosen`, `rejected`; their `prompt_ids`, `chosen_ids`, `rejected_ids` (token
            ids) are replaced.
        tokenizer: with a chat template that renders prompt and answer one after the other, and an end token.
    """

    def tokenize(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt = str(tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True))
        texts = {"prompt": prompt, **{side: row[side][0]["content"] for side in ("chosen", "rejected")}}
        ids = {name: tokenizer(text, add_special_tokens=False)["input_ids"] for name, text in texts.items()}
        answers = [[*ids[side], tokenizer.eos_token_id] for side in ("chosen", "rejected")]
        return dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), cut(ids["prompt"], *answers), strict=True))

    return pairs.map(tokenize)


def cut(prompt: list[int], chosen: list[int], rejected: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Cut token ids as the released code does: not if they fit; else the prompt; if still too long, both answers too.

    An answer of 485 tokens after a prompt of 28 therefore loses its last 229.
    """
    longer = max(len(chosen), len(rejected))
    if len(prompt) + longer > MAX_TOKENS:
        prompt = prompt[:MAX_PROMPT_TOKENS]
    if len(prompt) + longer > MAX_TOKENS:
        kept = MAX_TOKENS - MAX_PROMPT_TOKENS
        chosen, rejected = chosen[:kept], rejected[:kept]
    return prompt, chosen, rejected


def _left_side(row: dict[str, Any], left: dict[int, str], dataset: str) -> float:
    """1 - P(right), where P(chosen) = 1 - flip_prob, capped."""
    if row["question_id"] not in left:
        raise IfllmError(
            f"{dataset}: question {row['question_id']} of the preferences is not in the config pairwise, so its left "
            f"answer is unknown. Run `ifllm label` on the dataset again."
        )
    chose_left = row["chosen"][0]["content"] == left[row["question_id"]]
    return min(1 - row["flip_prob"] if chose_left else row["flip_prob"], CAP)
