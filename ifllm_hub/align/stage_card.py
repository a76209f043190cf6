"""The model card of what the SFT, KTO, GRPO and text reward scripts make."""

from pathlib import Path
from typing import Any

WHAT = {
    "sft": "after supervised fine-tuning on answers that people read side by side",
    "kto": "after KTO on answers that people rated",
    "grpo": "after GRPO with a text reward model as the reward of what it writes",
    "reward": "as a reward model: it scores an answer by its text, and has learned from pairs of answers",
}
PAPERS = {"kto": "arxiv:2402.01306", "grpo": "arxiv:2402.03300"}

POLICY_LOADING = """from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the id of its repo
model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)"""
REWARD_LOADING = """from ifllm_hub.align.text_reward import TextReward

reward = TextReward(".")  # this folder, or the id of its repo; a reward function for TRL's GRPO and RLOO trainers
reward(prompts=["Why is the sky blue?"], completions=["Air scatters short waves more than long ones."])"""
CROSS_ENCODER = (
    "This form reads both answers at once and says which is better. It has no score for a single answer, so it is no "
    "reward function.\n\n"
)


def stage_card(name: str, results: dict[str, Any]) -> str:
    """YAML for the Hub, then what was done, how far it went and how to load the result."""
    from huggingface_hub import ModelCardData

    stage = results["stage"]
    is_reward = stage == "reward"
    data = ModelCardData(
        base_model=results["base_model"],
        datasets=[results["dataset"]] if results["dataset_on_hub"] else None,
        library_name="transformers",
        license=results["license"],
        pipeline_tag="text-classification" if is_reward else "text-generation",
        tags=["ifllm_hub", "trl", stage, "implicit-feedback", "arxiv:2606.20482", *filter(None, [PAPERS.get(stage)])],
    )
    return f"""---
{data.to_yaml()}
---

# {name}

`{_shown(results["model"])}` {WHAT[stage]}. Made with `ifllm_hub`
([IFLLM](https://huggingface.co/papers/2606.20482)) and TRL.

## What it was trained on

{_training(results)}

## Evaluation

{_against_explicit(results)}{results["test_rows"]} test rows of workers who are not in the training split. TRL averages
over batches, so a smaller last batch weighs as much as a full one.

{_evaluation(results)}

All numbers are in `results.json`, the losses of the steps in `trainer_state.json`.

## How to load it

{_loading(results)}
{"" if results["license"] else chr(10) + "The licence is that of the model it started from." + chr(10)}"""


def _training(results: dict[str, Any]) -> str:
    source = f"`{results['dataset']}`"
    if not results["dataset_on_hub"]:
        source = f"a local folder, `{Path(results['dataset']).name}`"
    revision = f" at revision `{results['dataset_revision']}`" if results["dataset_revision"] else ""
    steps, epoch = results["steps"], results["steps_in_one_epoch"]
    extent = f"{steps} steps; one epoch is {epoch}."
    if steps < epoch:
        extent = (
            f"**only {steps} of the {epoch} steps of one epoch ({steps / epoch:.1%}); it shows that the run works.**"
        )
    lora = results.get("lora")
    weights = "all of them"
    if lora is not None:
        weights = f"a LoRA adapter (r {lora['r']}, alpha {lora['alpha']}), merged; the folder `adapter` holds it alone"
    made = f"commit `{results['commit']}`" if results["commit"] else f"version {results['versions']['ifllm_hub']}"
    settings = ", ".join(f"`{name}: {_shown(value)}`" for name, value in results["recipe"].items())
    return f"""- Starting point: {results["weights"]}
- Rows: {results["rows_after_length_filter"]} of the {results["train_rows"]} training rows of {source}{revision}.
- Labels: {results["data"]}
- SHA-256 of the rows: `{results["dataset_fingerprint"]}`
- Extent: {extent}
- Trained weights: {weights}.
- Recipe and flags: {settings}.
- Code: `ifllm_hub`, {made}. Seed {results["seed"]}, {results["processes"]} process(es) on {results["device"]}."""


def _evaluation(results: dict[str, Any]) -> str:
    before, after = results["eval_before"], results["eval_after"]
    rows = [f"| {name} | {before[name]:.4f} | {after[name]:.4f} |" for name in before]
    return "\n".join(["| metric | before | after |", "|---|---|---|", *rows])


def _against_explicit(results: dict[str, Any]) -> str:
    if results["stage"] != "reward":
        return ""
    against = results["against_explicit"]
    rows = (
        f"| {name} | {entry['correct']} | {entry['accuracy']:.3f} | {entry['low']:.3f} to {entry['high']:.3f} |"
        for name, entry in against["models"].items()
    )
    return f"""How often the answer it prefers is the one the worker preferred: {against["pairs"]} rated test pairs,
workers who are not in the training split: {against["workers"]}. The 95 % intervals (Wilson) take pairs as independent,
which pairs of one worker are not.

| by | correct | accuracy | interval |
|---|---|---|---|
{chr(10).join(rows)}

"""


def _loading(results: dict[str, Any]) -> str:
    if results["stage"] != "reward":
        return f"```python\n{POLICY_LOADING}\n```"
    return CROSS_ENCODER if results["form"] == "cross_encoder" else f"```python\n{REWARD_LOADING}\n```"


def _shown(value: Any) -> Any:
    """A folder's name without the path on this machine."""
    return Path(value).name if isinstance(value, str) and Path(value).is_dir() else value
