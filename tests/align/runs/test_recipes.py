"""The recipes of the paper's eight models: consistent, read by the real parser, two steps of each architecture."""

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from trl.trainer.sft_config import SFTConfig

from ifllm_hub.align import policies
from ifllm_hub.align.policies import BASE_MODELS, HUMAN_ASSISTANT, BaseModel
from ifllm_hub.align.quirks import ReferenceQuirks
from ifllm_hub.align.runs.arguments import parse_arguments as parse_stage
from ifllm_hub.align.runs.launch import PAPER_BATCHES, command_line
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.align.stages.sft import SFTArguments
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from tests.align.made import said, write_config, write_pairs
from tests.align.scripts import run_dpo, run_sft
from tests.align.tiny_llm import tiny_llm

RECIPES = shipped_folder("training") / "recipes"
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Answers a step in supervised fine-tuning, from the paper's released code, and a tiny model of the same architecture.
LLMS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "gpt2-xl": (8, "gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 1024}),
    "pythia-2.8b": (16, "gpt_neox", SMALL),
    "olmo2-1b": (8, "olmo2", SMALL),
    "llama3.2-3b": (8, "llama", SMALL),
    "qwen2.5-1.5b": (8, "qwen2", SMALL | {"num_key_value_heads": 1}),
    "qwen2.5-3b": (4, "qwen2", SMALL | {"num_key_value_heads": 1}),
    "qwen3-1.7b": (8, "qwen3", SMALL | {"num_key_value_heads": 1, "head_dim": 8}),
    "qwen3-4b": (4, "qwen3", SMALL | {"num_key_value_heads": 1, "head_dim": 8}),
}
OVERRIDES = ["--max_steps", "2", "--disable_tqdm", "True", "--save_strategy", "no", "--logging_steps", "1"]


def values(file: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / "paper" / file).read_text())


def test_one_recipe_is_for_all_models() -> None:
    assert set(BASE_MODELS) == set(LLMS)
    assert {path.name for path in (RECIPES / "paper").iterdir()} == {"sft.yaml", "dpo.yaml", "dpo-reference.yaml"}
    assert [values(file)["policy"] for file in ("sft.yaml", "dpo.yaml", "dpo-reference.yaml")] == [""] * 3


@pytest.mark.parametrize("llm", LLMS)
def test_the_command_of_a_model_has_its_batch(llm: str) -> None:
    """The printed line and the recipe together say how many answers a step has, as in the paper's released code."""
    command = command_line("paper", "ORG/ifllm", "out", {"policy": llm}, stage="sft")
    args, config, _ = parse_stage(SFTArguments, SFTConfig, command[command.index("--config") :])
    batch = LLMS[llm][0]
    assert (args.policy, config.per_device_train_batch_size, config.per_device_eval_batch_size) == (llm, batch, batch)
    given = {"policy": llm, "per_device_train_batch_size": 1}
    command = command_line("paper", "ORG/ifllm", "out", given, stage="sft")
    assert parse_stage(SFTArguments, SFTConfig, command[command.index("--config") :])[1].train_batch_size == 1
    assert "per_device" not in " ".join(command_line("paper", "ORG/ifllm", "out", {"policy": llm}, stage="dpo"))


@pytest.mark.parametrize(
    ("recipe", "stage", "message"),
    [
        ("qwen3-4b", "sft", "--recipe paper --policy qwen3-4b."),
        ("qwen3-4b", "dpo", r"--recipe paper --policy runs/qwen3-4b/sft \(what the stage sft left\)."),
        ("paper", "sft", "so --policy must name one: one of gpt2-xl, .*qwen3-4b."),
        ("paper", "dpo-reference", "so --policy must name one: the folder that the stage sft left."),
    ],
)
def test_what_a_recipe_needs_is_one_sentence(recipe: str, stage: Any, message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        command_line(recipe, "ORG/ifllm", "out", {}, stage=stage)


def test_the_script_too_wants_a_policy(data: str, tmp_path: Path) -> None:
    words = ["--config", str(RECIPES / "paper" / "dpo.yaml"), "--dataset", data, "--output_dir", str(tmp_path)]
    with pytest.raises(IfllmError, match="No policy is named"):
        run_dpo(*parse_dpo(words))


def test_a_reference_that_the_policy_does_not_name(tmp_path: Path) -> None:
    words = ["--config", str(RECIPES / "paper" / "dpo-reference.yaml"), "--dataset", "ORG/ifllm"]
    with pytest.raises(IfllmError, match=f"{tmp_path} is not a folder that a training script wrote"):
        parse_dpo([*words, "--policy", str(tmp_path)])
    assert parse_dpo([*words, "--policy", str(tmp_path), "--base_reference", "tiny"])[0].base_reference == "tiny"


def test_presets() -> None:
    """docs/alignment.md: what the released code does, and that nothing of it is in the default."""
    reference = {
        "invert_labels": True,
        "base_reference": "of_policy",
        "flip_prob_rule": "left_side",
        "cut_answers": True,
        "history": "none",
        "nll": "token_sum",
        "nll_weight": 1.0,
        "beta": 0.1,
        "learning_rate": 5e-7,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 150,
        "max_grad_norm": 10,
        "optim": "rmsprop",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 2,
        "max_length": 512,
        "bf16": False,
    }
    preset, corrected = values("dpo-reference.yaml"), values("dpo.yaml")
    assert {name: preset[name] for name in reference} == reference
    assert "gradient_accumulation_steps" not in preset
    parsed = parse_dpo(["--config", str(RECIPES / "paper" / "dpo.yaml"), "--dataset", "ORG/ifllm"])
    assert parsed[0].on() == {}
    assert (corrected["history"], corrected["nll"]) == ("shared_user_turns", "token_mean")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four pairs with answers of very different length, in their second turn, labeled by the forest."""
    folder = tmp_path_factory.mktemp("data")
    pairwise, preferences = [], []
    for number, words in enumerate((3, 40, 400, 5)):
        left, right = "a lemon and an egg " * words, f"Potatoes, number {number}."
        messages = said("user", "What should I cook?", "Soup.", "What else?")
        pairwise.append(
            {"question_id": number, "response_left": left, "response_right": right, "messages_left": messages,
             "messages_right": messages}
        )  # fmt: skip
        answers = (left, right) if number % 2 else (right, left)
        chosen, rejected = (said("assistant", answer) for answer in answers)
        preferences += [
            {"question_id": number, "label_source": source, "prompt": said("user", "What else?"), "chosen": chosen,
             "rejected": rejected, "flip_prob": flip}
            for source, flip in (("forest", 0.1 * number), ("explicit", 0.0))
        ]  # fmt: skip
    for rows, write in (
        (pairwise, partial(write_config, folder, "pairwise")),
        (preferences, partial(write_pairs, folder)),
    ):
        others = [row | {"question_id": row["question_id"] + len(pairwise), "worker_id": "other"} for row in rows]
        write([row | {"worker_id": "one"} for row in rows], others)
    return str(folder)


@pytest.fixture
def tiny_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Put a random model in the place of one on the Hub: its architecture, and a tokenizer without a chat template."""

    def tiny_base(llm: str) -> None:
        _, architecture, sizes = LLMS[llm]
        model, tokenizer = tiny_llm(architecture, sizes)
        model.save_pretrained(tmp_path / "base")
        tokenizer.chat_template = None
        tokenizer.save_pretrained(tmp_path / "base")
        monkeypatch.setitem(policies.BASE_MODELS, llm, BaseModel(str(tmp_path / "base"), "mit"))

    return tiny_base


def two_steps(llm: str, data: str, folder: Path) -> None:
    """All three files, each as it is but for the folders and the number of steps; the four pairs have a split."""

    def words(file: str) -> list[str]:
        paths = ["--dataset", data, "--output_dir", str(folder / file)]
        return ["--config", str(RECIPES / "paper" / file), *paths, *OVERRIDES]

    # Within the warm-up two steps change nothing that could be seen.
    faster = ["--learning_rate", "0.01", "--lr_scheduler_type", "constant", "--per_device_train_batch_size", "2"]
    sft = run_sft(*parse_stage(SFTArguments, SFTConfig, [*words("sft.yaml"), "--policy", llm, *faster]))
    assert sft["steps"] == 2
    assert sft["base_model"] == Path(policies.BASE_MODELS[llm].hub_id).name  # a folder here, and paths stay here
    tuned = str(folder / "sft.yaml")
    assert transformers.AutoTokenizer.from_pretrained(tuned).chat_template == HUMAN_ASSISTANT
    corrected, reference = (
        run_dpo(*parse_dpo([*words(file), "--policy", tuned, "--split", "worker"]))
        for file in ("dpo.yaml", "dpo-reference.yaml")
    )
    assert (corrected["steps"], reference["steps"]) == (2, 2)
    # The forest says left for 1 and 3, by .1 and .3.
    assert corrected["flip_prob_max"] == pytest.approx(0.3)
    assert reference["flip_prob_mean"] == pytest.approx((0 + 0.45 + 0.2 + 0.45) / 4)
    assert (corrected["quirks"], corrected["history"]) == ({}, "shared_user_turns")
    assert (corrected["pairs_truncated"], reference["pairs_truncated"]) == (1, 0), "cut at 1024; the quirk cuts before"
    card = (folder / "dpo-reference.yaml" / "README.md").read_text()
    assert f"`invert_labels: True`, `base_reference: {llm}`, `flip_prob_rule: left_side`, `cut_answers: True`" in card
    # The reference model is the SFT checkpoint in one, so that nothing differs from it, and the base in the other.
    assert corrected["eval_before"]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert abs(reference["eval_before"]["rewards/margins"]) > 1e-3
    logged = json.loads((folder / "dpo.yaml" / "trainer_state.json").read_text())["log_history"]
    assert all("nll" in entry for entry in logged if "loss" in entry)


def test_two_steps_of_each_recipe(data: str, tiny_base: Any, tmp_path: Path) -> None:
    tiny_base("qwen3-4b")
    two_steps("qwen3-4b", data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("llm", [llm for llm in LLMS if llm != "qwen3-4b"])
def test_two_steps_of_every_model(llm: str, data: str, tiny_base: Any, tmp_path: Path) -> None:
    tiny_base(llm)
    two_steps(llm, data, tmp_path)


@pytest.mark.parametrize("path", sorted(RECIPES.parent.glob("accelerate/*.yaml")), ids=lambda path: path.stem)
def test_launcher_configs_are_read_by_accelerate(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert (
        config.distributed_type.value
        == {
            "cpu": "NO",
            "ddp": "MULTI_GPU",
            "fsdp2": "FSDP",
            "zero2": "DEEPSPEED",
            "zero3": "DEEPSPEED",
        }[path.stem]
    )
    assert config.mixed_precision == "no", "the script decides"
    if path.stem.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])
    if path.stem == "zero3":
        assert config.deepspeed_config["zero3_save_16bit_model"] is True
    if path.stem == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2


# As the cards of the models on the Hub count them.
PARAMETERS = {
    "gpt2-xl": 1_557_611_200,
    "pythia-2.8b": 2_775_208_960,
    "olmo2-1b": 1_484_916_736,
    "llama3.2-3b": 3_212_749_824,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
}


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    path = RECIPES.parent / "memory.py"
    spec = importlib.util.spec_from_file_location("training_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return vars(module)


def test_memory_of_the_models(benchmark: dict[str, Any]) -> None:
    assert {llm: benchmark["paper_model"](llm).parameters for llm in LLMS} == PARAMETERS
    assert benchmark["SFT_BATCH"] == {llm: batch for llm, (batch, _, _) in LLMS.items()}
    assert {llm: batch for llm, (batch, _, _) in LLMS.items() if batch != 8} == PAPER_BATCHES
    shape = benchmark["paper_model"]("qwen3-4b")
    parts = benchmark["memory"](shape, 2048, optimizer=4, reference=True, bf16=False)
    # By hand: 4 + 4 + 4 + 4 bytes a parameter; 36 layers of 2,560 units, 9,728 inside.
    assert sum(parts.values()) - parts["activations"] == 16 * PARAMETERS["qwen3-4b"]
    assert parts["activations"] == 2048 * (4 * 2560 * 36 + 2 * (56 * 2560 + 16 * 9728))
    sharded = benchmark["memory"](shape, 2048, processes=8)
    assert sharded["optimizer"] == PARAMETERS["qwen3-4b"]
    adapter = benchmark["memory"](shape, 2048, lora=True)
    # Rank 16 on q (2560 x 4096), k and v (2560 x 1024), o (4096 x 2560), gate, up and down (2560 x 9728).
    per_layer = 16 * (2 * (2560 + 4096) + 2 * (2560 + 1024) + 3 * (2560 + 9728))
    assert adapter["gradients"] == 4 * 36 * per_layer


def test_the_tables_of_the_readme_are_those_of_the_benchmark(benchmark: dict[str, Any]) -> None:
    page = (RECIPES.parent / "README.md").read_text()
    assert benchmark["memory_table"]() in page
    assert benchmark["time_table"]() in page


def test_every_switch_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs" / "alignment.md").read_text()
    for name in ReferenceQuirks.__dataclass_fields__.keys() | {"history", "nll", "flip_weighting", "loss_weights"}:
        assert f"| `{name}`" in page, name
