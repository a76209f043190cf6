"""The model card of what a training script makes: what it was trained on, how far, and how to load it."""

from collections.abc import Callable

from ifllm_hub.align.runs.results import Adapter, Results, StartCounts

WHAT = {
    "sft": "after supervised fine-tuning on answers that people read side by side",
    "dpo": "after preference optimization on {labels}",
    "kto": "after KTO on answers that people rated",
    "grpo": "after GRPO with a text reward model as the reward of what it writes",
    "reward": "as a reward model: it scores an answer by its text, and has learned from {labels}",
}
LABELS = {
    "explicit": "labels that people gave: which of two LLM answers they preferred",
    "forest": "labels made from how people read LLM answers",
    "forest_mouse": "labels made from where people moved the mouse over LLM answers",
    "forest_gaze": "labels made from where people looked on LLM answers",
    "shipped_forest": "labels made from how people read LLM answers",
    "longer": "labels that call the longer of two LLM answers the better one, whatever people did",
    "shuffled": "labels that people gave to other pairs: shuffled, so that they carry no information",
}
PAPERS = {"dpo": "arxiv:2403.00409", "kto": "arxiv:2402.01306", "grpo": "arxiv:2402.03300"}

POLICY_LOADING = """from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the id of its repo
model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)"""
REWARD_LOADING = """from ifllm_hub.align.stages.text_reward import TextReward

reward = TextReward(".")  # this folder, or the id of its repo; a reward function for TRL's GRPO and RLOO trainers
reward(prompts=["Why is the sky blue?"], completions=["Air scatters short waves more than long ones."])"""
CROSS_ENCODER = (
    "This form reads both answers at once and says which is better. It cannot score a single answer, so it cannot "
    "serve as a reward function.\n\n"
)
NLL = {"token_mean": "mean over its tokens", "token_sum": "sum over its tokens, as in the paper"}
WEIGHTING = {
    "none": "none, so that a pair pushes harder the less its label is trusted, by 1 / (1 - 2 p)",
    "inverse_variance": "(1 - 2 p)^2, scaled to mean 1, so that a pair pushes in proportion to 1 - 2 p",
}
NO_MARGIN_AT_FIRST = (
    "Before the first step the policy is its own reference: every margin is 0, and TRL then counts no pair as right. "
)


def model_card(name: str, results: Results) -> str:
    """YAML for the Hub, then what was done, how far it went and how to load the result.

    Args:
        name: the heading.
        results: what `results.json` holds, without paths of this machine.
    """
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

`{results["model"]}` {WHAT[stage].format(labels=_labels(results["label_source"]))}. Made with `ifllm_hub`
([IFLLM](https://huggingface.co/papers/2606.20482)) and TRL.

## What it was trained on

{_training(results)}

## Evaluation

{_against_explicit(results)}{results["test_rows_after_length_filter"]} test rows{_held_out(results)}.
{NO_MARGIN_AT_FIRST if stage == "dpo" else ""}TRL averages over batches, so a smaller last batch weighs as much as a
full one.{_evaluation_batches(results)}

{_evaluation(results)}

All numbers are in `results.json`, the losses of the steps in `trainer_state.json`.

## How to load it

{_loading(results)}
{"" if results["license"] else chr(10) + "The license is that of the model it started from." + chr(10)}"""


def _labels(source: str) -> str:
    return LABELS.get(source, f"labels that were made elsewhere (`{source}`)")


def _training(results: Results) -> str:
    source = f"`{results['dataset']}`"
    if not results["dataset_on_hub"]:
        source = f"a local folder, `{results['dataset']}`"
    revision = f" at revision `{results['dataset_revision']}`" if results["dataset_revision"] else ""
    starts, version = results["starts"], results["versions"]["ifllm_hub"]
    made = _over_starts(starts, lambda it: f"commit `{it['commit']}`" if it["commit"] else f"version {version}")
    cut = _over_starts(
        starts,
        lambda it: (
            f"{it['processes']} process(es) on {it['device']} with {it['accumulation']} x {it['per_device']} rows each"
        ),
    )
    settings = ", ".join(f"`{name}: {value}`" for name, value in results["recipe"].items())
    lines = [
        f"Starting point: {results['weights']}",
        f"Rows: {results['rows_after_length_filter']} of the {results['train_rows']} training rows of "
        f"{source}{revision}.",
        f"Labels: {results['data']}",
        f"SHA-256 of the rows: `{results['dataset_fingerprint']}`",
        f"Extent: {_extent(results)}",
        *(_preference_loss(results) if results["stage"] == "dpo" else []),
        f"Trained weights: {_trained_weights(results.get('lora'))}.",
        f"Recipe and flags: {settings}.",
        f"A step: {cut}.",
        f"Code: `ifllm_hub`, {made}. Seed {results['seed']}, float32 weights.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _extent(results: Results) -> str:
    seen, epoch, steps = results["rows_seen"], results["rows_in_one_epoch"], results["steps"]
    if seen >= epoch:
        return f"{seen} rows in {steps} steps; one epoch is {epoch} rows in {results['steps_in_one_epoch']} steps."
    return (
        f"**only {seen} of the {epoch} rows of one epoch ({seen / epoch:.1%}), in {steps} steps. This shows that the "
        "run works; do not expect a better model than the one it started from.**"
    )


def _over_starts(starts: list[StartCounts], said: Callable[[StartCounts], str]) -> str:
    """The text for each start of a run: once where all agree, else each with the step until which it held."""
    texts = [said(start) for start in starts]
    changes = [at for at in range(1, len(texts)) if texts[at] != texts[at - 1]]
    parts = [f"{texts[at - 1]} until step {starts[at]['from_step']}" for at in changes]
    return ", then ".join([*parts, texts[-1]])


def _evaluation_batches(results: Results) -> str:
    before, after = (results["starts"][at]["evaluation_batch"] for at in (0, -1))
    return "" if before == after else f" Evaluation batches had {before} rows before training and {after} after."


def _preference_loss(results: Results) -> list[str]:
    """The lines that only cards of preference optimization have."""
    nll = ""
    if results["nll"] != "none":
        nll = f" + {results['nll_weight']:g} x NLL of the chosen answer ({NLL[results['nll']]})"
    quirks = []
    if results["quirks"]:
        switches = ", ".join(f"`{name}: {value}`" for name, value in results["quirks"].items())
        quirks = [f"Quirks of the paper's released code, switched on to measure their effect: {switches}."]
    return [
        f"Loss: {results['robust_weight']:g} x robust DPO{nll}, beta {results['beta']:g}, learning rate "
        f"{results['learning_rate']:g}. At most {results['max_length']} tokens: a pair whose prompt fills them is left "
        f"out, and {results['pairs_truncated']} are cut.",
        f"Probability that a label is wrong: {results['flip_prob_mean']:.4f} on average, at most "
        f"{results['flip_prob_max']:.4f} ({results['flip_prob_origin']}). Weights by it: "
        f"{WEIGHTING[results['flip_weighting']]}.",
        *quirks,
    ]


def _trained_weights(lora: Adapter | None) -> str:
    if lora is None:
        return "all of them"
    where = f"the linear layers of the last {lora['layers']} blocks" if lora["layers"] else "all linear layers"
    beside = f", trained beside {lora['frozen_weights']} weights" if "frozen_weights" in lora else ""
    return (
        f"a LoRA adapter on {where} (r {lora['r']}, alpha {lora['alpha']}){beside}, merged into these weights; the "
        "folder `adapter` holds it alone"
    )


def _held_out(results: Results) -> str:
    """What keeps the test rows apart from the training rows."""
    match results.get("split", "worker"):
        case "worker":
            return " of workers who are not in the training split"
        case "reference":
            return ", drawn row by row as the paper's released code does: their workers are in the training split too"
        case unit:
            return f" of {unit}s that are not in the training split, though their workers are"


def _evaluation(results: Results) -> str:
    before, after = results["eval_before"], results["eval_after"]
    rows = [f"| {name} | {before[name]:.4f} | {after[name]:.4f} |" for name in before]
    return "\n".join(["| metric | before | after |", "|---|---|---|", *rows])


def _against_explicit(results: Results) -> str:
    if results["stage"] != "reward":
        return ""
    against = results["against_explicit"]
    rows = (
        f"| {name} | {entry['correct']} | {entry['accuracy']:.3f} | {entry['low']:.3f} to {entry['high']:.3f} |"
        for name, entry in against["models"].items()
    )
    return f"""How often it prefers the answer that the worker preferred, in {against["pairs"]} rated test pairs of
    {against["workers"]} workers who are not in the training split. The 95 % intervals (Wilson) treat pairs as
    independent, though pairs of one worker are not.

| by | correct | accuracy | interval |
|---|---|---|---|
{chr(10).join(rows)}

"""


def _loading(results: Results) -> str:
    if results["stage"] != "reward":
        return f"```python\n{POLICY_LOADING}\n```"
    return CROSS_ENCODER if results["form"] == "cross_encoder" else f"```python\n{REWARD_LOADING}\n```"
