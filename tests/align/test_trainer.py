"""The trainer's loss against closed forms, TRL's own losses, and everything it must not depend on."""

import copy
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file
from trl import DPOConfig, DPOTrainer

from ifllm_hub.align.policies import load_policy, tiny_tokenizer
from ifllm_hub.align.runs.launch import launch_dpo
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.align.trainer import FlipProbCollator, FlipProbDPOConfig, FlipProbDPOTrainer
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from tests.align.scripts import run_dpo
from tests.align.tiny_llm import tiny_llm

BETA = 0.1
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
# The architectures of the paper's policies: GPT2-XL, Pythia, OLMo-2, Llama-3.2, Qwen2.5, Qwen3.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
    "gpt_neox": SMALL,
    "olmo2": SMALL,
    "llama": SMALL,
    "qwen2": SMALL | {"num_key_value_heads": 1},
    "qwen3": SMALL | {"num_key_value_heads": 1, "head_dim": 16},
}
CPU = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none", "disable_tqdm": True}
Build = Callable[..., Any]


def make(architecture: str) -> tuple[Any, Any]:
    """A random policy and its reference, which differ enough for margins that are not 0."""
    policy = tiny_llm(architecture, ARCHITECTURES[architecture])[0].eval()
    reference = copy.deepcopy(policy)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for weights in policy.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    return policy, reference


@pytest.fixture
def build(tmp_path: Path, six_pairs: list[dict[str, Any]]) -> Build:
    """A trainer for fresh copies of the policy and the reference of an architecture; without flip_prob it is TRL's."""

    def build(architecture: str = "qwen2", rows: list[dict[str, Any]] | None = None, **settings: Any) -> Any:
        policy, reference = make(architecture)
        ours = "label_smoothing" not in settings
        config = (FlipProbDPOConfig if ours else DPOConfig)(
            output_dir=str(tmp_path / "out"),
            beta=BETA,
            **{"save_strategy": "no", "per_device_train_batch_size": 8} | CPU | settings,
        )
        data = Dataset.from_list(rows or six_pairs)
        return (FlipProbDPOTrainer if ours else DPOTrainer)(
            model=policy,
            ref_model=reference,
            args=config,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tiny_tokenizer(),
        )

    return build


def batch_of(trainer: Any) -> dict[str, Any]:
    return next(iter(trainer.get_eval_dataloader()))


def loss_and_gradients(trainer: Any) -> tuple[float, torch.Tensor]:
    """Of one batch with all pairs; the gradients of all weights in one vector."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch_of(trainer))
    loss.backward()
    return loss.item(), gradients(trainer.model)


def gradients(model: Any) -> torch.Tensor:
    # TRL leaves the bias of the output head, where a model has one, without a gradient of its own.
    return torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])


def per_pair(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Both terms of every pair of a batch, added: what the loss is the mean of."""
    seen = []
    original = trainer.pair_losses

    def spy(*args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(original(*args))
        return seen[-1]

    monkeypatch.setattr(trainer, "pair_losses", spy)
    loss = trainer.compute_loss(trainer.model, batch_of(trainer))
    robust, nll = seen[0]
    assert (robust + nll).mean().item() == pytest.approx(loss.item(), abs=1e-6)
    return (robust + nll).detach()


def closed_form(
    rows: list[dict[str, Any]], policy: Any, reference: Any, tokenizer: Any, args: FlipProbDPOConfig
) -> torch.Tensor:
    """The loss, pair by pair and without padding, from the logits of the two models and nothing of TRL's."""

    def log_probs(model: Any, row: dict[str, Any], answer: str) -> torch.Tensor:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        whole = torch.tensor(tokenizer.apply_chat_template(row["prompt"] + row[answer])["input_ids"])
        log_softmax = model(whole[None]).logits[0].log_softmax(-1)
        return torch.stack([log_softmax[at - 1, whole[at]] for at in range(len(prompt), len(whole))])

    total = torch.zeros(())
    precisions = [(1 - 2 * row["flip_prob"]) ** 2 for row in rows]
    for row, precision in zip(rows, precisions, strict=True):
        ratios = [
            log_probs(policy, row, answer).sum() - log_probs(reference, row, answer).sum().detach()
            for answer in ("chosen", "rejected")
        ]
        z, e = BETA * (ratios[0] - ratios[1]), row["flip_prob"]
        robust = (-(1 - e) * torch.sigmoid(z).log() + e * torch.sigmoid(-z).log()) / (1 - 2 * e)
        if args.flip_weighting == "inverse_variance":
            robust = robust * precision / (sum(precisions) / len(precisions))
        tokens = log_probs(policy, row, "chosen")
        nll = {"token_sum": -tokens.sum(), "token_mean": -tokens.mean(), "none": 0.0}[args.nll]
        total = total + (args.loss_weights or [1.0])[0] * robust + args.nll_weight * nll
    return total / len(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_equal_the_closed_form(
    build: Build, six_pairs: list[dict[str, Any]], architecture: str
) -> None:
    trainer = build(architecture, loss_weights=[0.7], nll_weight=0.3)
    policy, reference = make(architecture)
    for nll, flip_weighting in (("token_mean", "none"), ("token_sum", "inverse_variance"), ("none", "none")):
        trainer.args.nll, trainer.args.flip_weighting = nll, flip_weighting
        loss, gradient = loss_and_gradients(trainer)
        policy.zero_grad()
        expected = closed_form(six_pairs, policy, reference, trainer.processing_class, trainer.args)
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-5, abs=1e-5), (nll, flip_weighting)
        torch.testing.assert_close(gradient, gradients(policy), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=[] if name == "qwen2" else pytest.mark.slow) for name in ARCHITECTURES]
)
@pytest.mark.parametrize(("flip_prob", "loss_type"), [(0.0, "sigmoid"), (0.3, "robust")])
def test_one_flip_probability_and_no_nll_is_trl(
    build: Build, six_pairs: list[dict[str, Any]], architecture: str, flip_prob: float, loss_type: str
) -> None:
    rows = [row | {"flip_prob": flip_prob} for row in six_pairs]
    trl = build(architecture, rows, loss_type=[loss_type], label_smoothing=flip_prob)
    expected, expected_gradient = loss_and_gradients(trl)
    for settings in ({"nll": "none"}, {"nll_weight": 0.0}, {"nll": "none", "flip_weighting": "inverse_variance"}):
        ours = build(architecture, rows, **settings)
        loss, gradient = loss_and_gradients(ours)
        assert loss == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    ours_metrics, trl_metrics = (trainer._metrics["eval"] for trainer in (ours, trl))
    assert ours_metrics.keys() - trl_metrics.keys() == {"flip_prob/mean", "nll"}
    assert {key: ours_metrics[key][0] for key in trl_metrics} == pytest.approx(
        {key: values[0] for key, values in trl_metrics.items()}, abs=1e-5
    )


def test_token_mean_is_trls_sft_for_one_pair_and_not_for_uneven_ones(
    build: Build, six_pairs: list[dict[str, Any]]
) -> None:
    trl = {"loss_type": ["robust", "sft"], "loss_weights": [1.0, 0.5], "label_smoothing": 0.2}
    one = [six_pairs[1]]
    assert six_pairs[1]["flip_prob"] == 0.2
    expected, _ = loss_and_gradients(build(rows=one, **trl))
    assert loss_and_gradients(build(rows=one, nll_weight=0.5))[0] == pytest.approx(expected, abs=1e-5)
    rows = [row | {"flip_prob": 0.2} for row in six_pairs]
    # Ten times the weight shows ten times the difference between a mean of tokens and one of pairs.
    expected, _ = loss_and_gradients(build(rows=rows, **trl | {"loss_weights": [1.0, 5.0]}))
    assert loss_and_gradients(build(rows=rows, nll_weight=5.0))[0] != pytest.approx(expected, abs=1e-3)


def test_loss_weight_0_is_the_likelihood_alone(build: Build, six_pairs: list[dict[str, Any]]) -> None:
    results = [
        loss_and_gradients(build(rows=rows, loss_weights=[0.0], nll="token_sum"))
        for rows in (six_pairs, [row | {"rejected": [{"role": "assistant", "content": "No."}]} for row in six_pairs])
    ]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.3, 0.45])
def test_gradient_at_zero_margin(build: Build, six_pairs: list[dict[str, Any]], flip: float) -> None:
    trainer = build(nll="none", flip_weighting="none")
    flips = torch.tensor([row["flip_prob"] for row in six_pairs])

    def slope() -> float:
        margin = torch.zeros(1, requires_grad=True)
        trainer.pair_losses(margin, torch.zeros(1), torch.tensor([flip]))[0].backward()
        return margin.grad.item()

    dpo = -0.5
    assert slope() == pytest.approx(dpo / (1 - 2 * flip), rel=1e-5)
    trainer.args.flip_weighting = "inverse_variance"
    assert slope() == pytest.approx(dpo * (1 - 2 * flip) / ((1 - 2 * flips) ** 2).mean().item(), rel=1e-5)


def test_unbiased_and_weighted_by_the_inverse_of_its_variance(build: Build, six_pairs: list[dict[str, Any]]) -> None:
    """Every true label and flip enumerated: expectation and variance, without the formulas of the docstring."""
    trainer = build(nll="none", flip_weighting="none")
    flips = torch.tensor([row["flip_prob"] for row in six_pairs], dtype=torch.float64)
    nothing = torch.zeros_like(flips)

    def robust(margin: torch.Tensor) -> torch.Tensor:
        return trainer.pair_losses(margin, nothing, flips)[0]

    for z in (-3.0, 0.0, 0.7):
        margin = torch.full_like(flips, z)
        over_flips = (1 - flips) * robust(margin) + flips * robust(-margin)
        torch.testing.assert_close(over_flips, -F.logsigmoid(margin))

    mean, square = torch.zeros_like(flips), torch.zeros_like(flips)
    for direction in (1, -1):
        for probability, flipped in ((1 - flips, 1), (flips, -1)):
            z = torch.zeros_like(flips, requires_grad=True)
            robust(direction * flipped * z).sum().backward()
            mean = mean + probability / 2 * z.grad
            square = square + probability / 2 * z.grad**2
    variance = square - mean**2
    unweighted = robust(torch.ones_like(flips))
    trainer.args.flip_weighting = "inverse_variance"
    weights = robust(torch.ones_like(flips)) / unweighted
    torch.testing.assert_close(weights * variance, (weights * variance)[0].expand(6), rtol=1e-6, atol=0)
    assert weights.mean().item() == pytest.approx(1, abs=1e-6)
    assert (weights**2 * variance).sum() < variance.sum(), "the weighting does not lower the variance"


def test_order_and_padding_do_not_matter(
    build: Build, six_pairs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"nll": "token_sum", "nll_weight": 0.1, "flip_weighting": "none"}
    together = per_pair(build(**settings), monkeypatch)
    assert together.unique().numel() == 6
    order = [3, 1, 5, 0, 4, 2]
    permuted = per_pair(build(rows=[six_pairs[at] for at in order], **settings), monkeypatch)
    torch.testing.assert_close(permuted, together[order], rtol=1e-5, atol=1e-5)
    padded = per_pair(build(pad_to_multiple_of=64, **settings), monkeypatch)
    torch.testing.assert_close(padded, together, rtol=1e-5, atol=1e-5)
    alone = torch.cat([per_pair(build(rows=[row], **settings), monkeypatch) for row in six_pairs])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nll", ["token_mean", "token_sum"])
def test_gradient_accumulation_does_not_matter(build: Build, six_pairs: list[dict[str, Any]], nll: str) -> None:
    """Two steps of four pairs, cut 1 x 4, 2 x 2 and 4 x 1: weights agree to 1e-5 after moving by more than 1e-2."""
    rows = [*six_pairs, six_pairs[1] | {"flip_prob": 0.45}, six_pairs[4] | {"flip_prob": 0.05}]
    settings = {"nll": nll, "nll_weight": 1.0 if nll == "token_mean" else 0.02, "flip_weighting": "inverse_variance"}
    settings |= {"optim": "sgd", "learning_rate": 0.2, "lr_scheduler_type": "constant", "max_steps": 2}
    ended = []
    for micro_batch in (1, 2, 4):
        cut = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": 4 // micro_batch}
        trainer = build(rows=rows, logging_steps=1, **cut, **settings)
        start = torch.cat([weights.detach().flatten().clone() for weights in trainer.model.parameters()])
        trainer.train()
        ended.append(torch.cat([weights.detach().flatten() for weights in trainer.model.parameters()]))
    assert (ended[0] - start).abs().max() > 1e-2
    for other in ended[1:]:
        torch.testing.assert_close(other, ended[0], rtol=0, atol=1e-5)


def test_precomputed_reference_is_the_live_one(build: Build, six_pairs: list[dict[str, Any]]) -> None:
    live, stored = build(), build(precompute_ref_log_probs=True)
    assert "ref_chosen_logps" in batch_of(stored)
    (loss, gradient), (expected, expected_gradient) = loss_and_gradients(stored), loss_and_gradients(live)
    assert loss == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    other = Dataset.from_list(six_pairs[2:])
    assert stored.evaluate(other)["eval_loss"] == pytest.approx(live.evaluate(other)["eval_loss"], abs=1e-5)


def test_metrics_of_training_and_evaluation(build: Build, six_pairs: list[dict[str, Any]]) -> None:
    trainer = build(max_steps=1, logging_steps=1, learning_rate=0.0, nll="token_sum")
    trainer.train()
    trained, evaluated = trainer.state.log_history[0], trainer.evaluate()
    assert trained["flip_prob/mean"] == evaluated["eval_flip_prob/mean"] == pytest.approx(0.2)
    assert trained["nll"] == pytest.approx(-trained["logps/chosen"]) == pytest.approx(evaluated["eval_nll"])
    assert evaluated["eval_rewards/accuracies"] == trained["rewards/accuracies"]


@pytest.mark.filterwarnings("ignore:`return_outputs=True`:FutureWarning")
def test_outputs_are_returned_with_the_same_loss(build: Build) -> None:
    trainer = build()
    loss = trainer.compute_loss(trainer.model, batch_of(trainer))
    again, outputs = trainer.compute_loss(trainer.model, batch_of(trainer), return_outputs=True)
    assert again.item() == loss.item()
    assert outputs.logits.shape[:2] == batch_of(trainer)["input_ids"].shape


@pytest.mark.parametrize("flip", [None, float("nan"), 0.5, 1.0, -0.1])
def test_a_flip_probability_that_is_none(build: Build, six_pairs: list[dict[str, Any]], flip: float | None) -> None:
    rows = [*six_pairs[:3], six_pairs[3] | {"flip_prob": flip, "question_id": 77}]
    with pytest.raises(IfllmError, match=rf"flip_prob is {flip} in row 3 \(question_id 77\) of the train data.*swap"):
        build(rows=rows)
    trainer = build()
    with pytest.raises(IfllmError, match=r"row 3 .* of the eval data"):
        trainer.evaluate(Dataset.from_list(rows))


def test_data_that_cannot_be_checked(build: Build, six_pairs: list[dict[str, Any]]) -> None:
    trainer = build()
    with pytest.raises(IfllmError, match="no column 'flip_prob'"):
        trainer.evaluate(Dataset.from_list(six_pairs).remove_columns("flip_prob"))
    with pytest.raises(IfllmError, match="IterableDataset cannot be read ahead"):
        trainer.evaluate(Dataset.from_list(six_pairs).to_iterable_dataset())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": ["sigmoid"]}, r"loss_type is \['sigmoid'\], but must be \['robust'\].*flip_prob 0"),
        ({"loss_type": ["robust", "sft"]}, "loss_type is .*--nll token_mean"),
        ({"loss_type": ["ipo"]}, "loss_type is"),
        ({"ld_alpha": 0.5}, "ld_alpha is 0.5, but must be None"),
        ({"f_divergence_type": "forward_kl"}, "f_divergence_type is"),
        ({"use_weighting": True}, "use_weighting is True"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_the_loss_does_not_define(build: Build, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        build(**settings)


@pytest.mark.parametrize(("name", "value"), [("label_smoothing", 0.1), ("use_liger_kernel", True)])
def test_settings_with_a_better_way(tmp_path: Path, name: str, value: Any) -> None:
    args = FlipProbDPOConfig(str(tmp_path), **CPU)
    setattr(args, name, value)
    with pytest.raises(IfllmError, match=f"{name} is {value}.*(into every row|TRL deprecates it)"):
        FlipProbDPOTrainer(args=args, model=None)


def test_the_hooks_of_trl_are_what_they_were() -> None:
    assert version("trl").startswith("1.16.")
    hooks = {
        "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
        "compute_ref_log_probs": ["self", "model", "inputs"],
        "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
        "_set_signature_columns_if_needed": ["self"],
        "_precompute_ref_logps": ["self", "dataset", "name", "batch_size"],
    }
    assert {name: list(inspect.signature(getattr(DPOTrainer, name)).parameters) for name in hooks} == hooks
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert source.count(" = model(**model_kwargs") == 2, "the policy runs once, and again only for its outputs"
    assert "in zip(self.loss_types, self.loss_weights" in source
    assert "if self.precompute_ref_logps:" in source


def test_the_collator_adds_one_tensor() -> None:
    batch = FlipProbCollator(lambda examples: {"size": len(examples)})([{"flip_prob": 0.1}, {"flip_prob": 0}])
    assert batch["size"] == 2
    torch.testing.assert_close(batch["flip_prob"], torch.tensor([0.1, 0.0]))


@pytest.mark.slow
def test_two_processes_end_where_one_does(dataset: Path, tmp_path: Path) -> None:
    """Gloo on the CPU: two pairs a step, in one process or one in each of two; weights agree to 1e-5."""
    flags = {"max_steps": 3, "optim": "sgd", "learning_rate": 0.5, "flip_weighting": "inverse_variance"}
    launch_dpo("tiny", dataset, tmp_path / "two", flags | {"per_device_train_batch_size": 1}, processes=2)
    recipe = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    paths = ["--config", str(recipe), "--dataset", str(dataset), "--output_dir", str(tmp_path / "one")]
    one = run_dpo(*parse_dpo([*paths, *words, "--disable_tqdm", "True"]))
    assert one["processes"] == 1
    assert '"processes": 2' in (tmp_path / "two" / "results.json").read_text()
    start = load_policy("tiny")[0].state_dict()
    two, single = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert max((single[name] - start[name]).abs().max() for name in single) > 1e-2
    for name, weights in single.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-5)
