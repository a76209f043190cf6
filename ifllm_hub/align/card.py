"""The aligned policy's card as Markdown, written from the results of its run."""

from pathlib import Path
from typing import Any

NLL = {"token_mean": "mean over its tokens", "token_sum": "sum over its tokens, as in the paper"}
WEIGHTING = {
    "none": "none, so that a pair pushes harder the less its label is trusted, by 1 / (1 - 2 p)",
    "inverse_variance": "(1 - 2 p)^2, scaled to mean 1, so that a pair pushes in proportion to 1 - 2 p",
}


def model_card(name: str, results: dict[str, Any]) -> str:
    """The model card: YAML for the Hub, then what was done, how far it went and how to load the result."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=results["base_model"],
        datasets=[results["dataset"]] if results["dataset_on_hub"] else None,
        library_name="transformers",
        license=results["license"],
        pipeline_tag="text-generation",
        tags=["ifllm_hub", "trl", "dpo", "implicit-feedback", "arxiv:2606.20482"],
    )
    steps, epoch_steps, lora = results["steps"], results["steps_in_one_epoch"], results["lora"]
    extent = f"{steps} steps; one epoch is {epoch_steps}."
    if steps < epoch_steps:
        extent = (
            f"**only {steps} of the {epoch_steps} steps of one epoch ({steps / epoch_steps:.1%}). This shows that the "
            "pipeline works; do not expect a better model than the one it started from.**"
        )
    weights = "all of them."
    if lora is not None:
        weights = (
            f"a LoRA adapter on all linear layers (r {lora['r']}, alpha {lora['alpha']}), merged into these weights; "
            "the folder `adapter` holds it alone, for `peft.AutoPeftModelForCausalLM`."
        )
    source = (
        f"`{results['dataset']}`" if results["dataset_on_hub"] else f"a local folder, `{Path(results['dataset']).name}`"
    )
    revision = f" at revision `{results['dataset_revision']}`" if results["dataset_revision"] else ""
    nll = ""
    if results["nll"] != "none":
        nll = f" + {results['nll_weight']:g} x NLL of the chosen answer ({NLL[results['nll']]})"
    quirks = ""
    if results["quirks"]:
        switches = ", ".join(f"`{name}: {value}`" for name, value in results["quirks"].items())
        quirks = f"\n- Quirks of the paper's released code, switched on to measure their effect: {switches}."
    rows = (
        f"| {key} | {results['eval_before'][key]:.4f} | {results['eval_after'][key]:.4f} |"
        for key in results["eval_before"]
    )
    return f"""---
{data.to_yaml()}
---

# {name}

`{results["policy"]}` after preference optimisation on labels made from how people read LLM answers
([IFLLM](https://huggingface.co/papers/2606.20482)), with the `FlipProbDPOTrainer` of `ifllm_hub`, on TRL.

## What it was trained on

- Starting point: {results["policy_weights"]}
- Pairs: {results["pairs_after_length_filter"]} of the {results["train_pairs"]} training pairs of {source}{revision},
  labelled by `{results["label_source"]}`. At most {results["max_length"]} tokens: a pair whose prompt fills them is
  left out, and {results["pairs_truncated"]} are cut. SHA-256 of the rows: `{results["dataset_fingerprint"]}`.
  Earlier turns in the prompts: `{results["history"]}`.{quirks}
- Extent: {extent}
- Loss: {results["robust_weight"]:g} x robust DPO{nll}, beta {results["beta"]:g}, learning rate
  {results["learning_rate"]:g}.
- Probability that a label is wrong: {results["flip_prob_mean"]:.4f} on average, at most {results["flip_prob_max"]:.4f}
  ({results["flip_prob_origin"]}). Weights by it: {WEIGHTING[results["flip_weighting"]]}.
- Trained weights: {weights}
- Seed {results["seed"]}, {results["processes"]} process(es) on {results["device"]}, float32 weights.

## Evaluation

{results["test_pairs"]} test pairs of workers who are not in the training split, labelled the same way. Before the first
step the policy is its own reference: every margin is 0, and TRL then counts no pair as right. TRL averages over
batches, so a smaller last batch weighs as much as a full one.

| metric | before | after |
|---|---|---|
{chr(10).join(rows)}

All numbers are in `results.json`, the losses of the steps in `trainer_state.json`.

## How to load it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the id of its repo
model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
```
{"" if results["license"] else chr(10) + "The licence is that of the model it started from." + chr(10)}"""
