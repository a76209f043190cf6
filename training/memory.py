"""The GPU memory and time that training the paper's eight models takes, estimated from their sizes.

python training/memory.py                # the tables of training/README.md
python training/memory.py --measure      # a real step of SmolLM2-135M on this CPU against the formula, about a minute

Memory is weights + gradients + optimizer state + reference model + activations of one process. Parameters are counted
on torch's meta device from the sizes in each model's config.json, so nothing is downloaded. Time is FLOPs over the
GPU's bf16 peak times an assumed utilization, so it is an estimate; nothing here has been timed on a GPU.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

GB = 1e9
# Sizes from the config.json of each model on the Hub.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2-xl": ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257}),
    "pythia-2.8b": ("gpt_neox", {"hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32,
                                 "intermediate_size": 10240, "vocab_size": 50304}),
    "olmo2-1b": ("olmo2", {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
                           "intermediate_size": 8192, "vocab_size": 100352}),
    "llama3.2-3b": ("llama", {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24,
                              "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
                              "tie_word_embeddings": True}),
    "qwen2.5-1.5b": ("qwen2", {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
                               "num_key_value_heads": 2, "intermediate_size": 8960, "vocab_size": 151936,
                               "tie_word_embeddings": True}),
    "qwen2.5-3b": ("qwen2", {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
                             "num_key_value_heads": 2, "intermediate_size": 11008, "vocab_size": 151936,
                             "tie_word_embeddings": True}),
    "qwen3-1.7b": ("qwen3", {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
                             "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 6144,
                             "vocab_size": 151936, "tie_word_embeddings": True}),
    "qwen3-4b": ("qwen3", {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                           "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728,
                           "vocab_size": 151936, "tie_word_embeddings": True}),
}  # fmt: skip
# The study's 580 training pairs labeled by the forest, prompts of all turns: tokens of prompt + answer, counted with
# SmolLM2's tokenizer; the longest sequence has 774.
TOKENS_AN_EPOCH = 425_667
# Dense bf16 peak of an RTX 4090 (24 GB) and an A100 (80 GB), from NVIDIA's data sheets, and the share assumed to be
# used.
PEAK = {"24 GB": 165e12, "80 GB": 312e12}
UTILIZATION = 0.3
# The rest is for CUDA's context, fragmentation and buffers of collectives.
USABLE = 0.9
LORA_RANK = 16
# Answers per step in supervised fine-tuning: the recipe's `sft.yaml`, with `PAPER_BATCHES`.
SFT_BATCH = {"gpt2-xl": 8, "pythia-2.8b": 16, "olmo2-1b": 8, "llama3.2-3b": 8, "qwen2.5-1.5b": 8, "qwen2.5-3b": 4,
             "qwen3-1.7b": 8, "qwen3-4b": 4}  # fmt: skip
PARTS = ("weights", "gradients", "optimizer", "bf16 copies", "activations")


@dataclass(frozen=True)
class Shape:
    """The sizes that a model's memory depends on."""

    parameters: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    lora: int


def shape_of(config: Any) -> Shape:
    """Parameters, and those of a LoRA adapter of rank 16 on all linear layers but the output head."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linear = [m for name, m in model.named_modules()
              if isinstance(m, torch.nn.Linear | Conv1D) and m is not model.get_output_embeddings()]  # fmt: skip
    hidden, layers = config.hidden_size, config.num_hidden_layers
    return Shape(
        model.num_parameters(),
        layers,
        hidden,
        getattr(config, "intermediate_size", 4 * hidden),
        config.vocab_size,
        sum(LORA_RANK * sum(module.weight.shape) for module in linear),
    )


def paper_model(llm: str) -> Shape:
    from transformers import AutoConfig

    architecture, sizes = SIZES[llm]
    return shape_of(AutoConfig.for_model(architecture, **sizes))


def activations(shape: Shape, tokens: int, bf16: bool = True) -> float:
    """Bytes for `tokens` in one micro-batch, with activation checkpointing.

    The input of each layer is kept in float32. One layer at a time is run again and differentiated: it keeps at most
    50 h + 8 i bytes per token under bf16 autocast, 56 h + 16 i without (measured: what autograd saves for a Llama,
    Qwen3, OLMo2, GPT-NeoX and GPT-2 layer of two widths), and their gradients as much again.
    """
    one_layer = 50 * shape.hidden + 8 * shape.inner if bf16 else 56 * shape.hidden + 16 * shape.inner
    return float(tokens * (4 * shape.hidden * shape.layers + 2 * one_layer))


def memory(
    shape: Shape, tokens: int, *, optimizer: int = 8, reference: bool = False, lora: bool = False, bf16: bool = True,
    processes: int = 1,
) -> dict[str, float]:  # fmt: skip
    """Bytes per process, with float32 weights.

    Args:
        tokens: in one micro-batch, prompts and both answers of all its pairs.
        optimizer: bytes per trained parameter: 8 for AdamW, 4 for RMSprop.
        reference: whether the reference model is kept, in float32.
        lora: train an adapter and nothing else.
        bf16: autocast, which keeps a bf16 copy of trained, unsharded weights, and of others only while they are in use.
        processes: number over which FSDP2 or ZeRO-3 shards everything but activations; 1 is unsharded.
    """
    trained = shape.lora if lora else shape.parameters
    weights = 4 * (shape.parameters + (shape.lora if lora else 0))
    return {
        "weights": weights / processes,
        "gradients": 4 * trained / processes,
        "optimizer": optimizer * trained / processes,
        "reference": 4 * shape.parameters / processes if reference else 0.0,
        "bf16 copies": _copies(shape, whole=processes == 1 and not lora) if bf16 else 0.0,
        "activations": activations(shape, tokens, bf16),
    }


def hours(shape: Shape, gpu: str, gpus: int, *, epochs: int, reference: bool) -> float:
    """6 FLOPs per parameter and token for forward and backward, 2 for checkpointing, 2 for a reference model."""
    flops = shape.parameters * TOKENS_AN_EPOCH * epochs * (8 + 2 * reference)
    return flops / (gpus * PEAK[gpu] * UTILIZATION) / 3600


def _copies(shape: Shape, whole: bool) -> float:
    if whole:
        return 2.0 * shape.parameters
    # The output head and two layers at a time, in float32 at most: one in use, one prefetched.
    head = shape.vocabulary * shape.hidden
    return 4 * (head + 2 * (shape.parameters - head) / shape.layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="a real step of SmolLM2-135M against the formula")
    if parser.parse_args().measure:
        measure()
    else:
        Console(soft_wrap=True, markup=False, highlight=False).print(f"{memory_table()}\n\n{time_table()}")


def memory_table() -> str:
    """GB per GPU, as Markdown; a figure in parentheses is more than `USABLE` of that GPU."""
    rows = []
    for llm in SIZES:
        shape = paper_model(llm)
        # As in dpo.yaml: two pairs, each prompt and answer of at most 1024 tokens.
        parts = memory(shape, 4 * 1024)
        needs = [
            *((sum(memory(shape, 4 * 1024, lora=True).values()), 24),),
            *((sum(memory(shape, SFT_BATCH[llm] * 1024, optimizer=4).values()), 80),),
            *((sum(parts.values()), 80),),
            *((sum(memory(shape, 4 * 512, optimizer=4, reference=True, bf16=False).values()), 80),),
            *((sum(memory(shape, 4 * 1024, processes=8).values()), 80),),
        ]
        fits = [f"{need / GB:.0f}" if need <= USABLE * GB * gpu else f"({need / GB:.0f})" for need, gpu in needs]
        figures = [f"{parts[name] / GB:.1f}" for name in PARTS]
        rows.append([llm, f"{shape.parameters:,}", *figures, *fits])
    return _markdown(
        ["LLM", "parameters", *PARTS, "dpo, LoRA, 24 GB", "sft, 80 GB", "dpo, 80 GB", "dpo-reference, 80 GB",
         "dpo, 8 x 80 GB, fsdp2"], rows,
    )  # fmt: skip


def time_table() -> str:
    """Minutes, as Markdown."""
    rows = []
    for llm in SIZES:
        shape = paper_model(llm)
        took = (
            60 * hours(shape, gpu, gpus, epochs=epochs, reference=reference)
            for gpu, gpus in (("24 GB", 1), ("80 GB", 1), ("80 GB", 8))
            for epochs, reference in ((3, False), (1, True))
        )
        rows.append([llm, *(f"{minutes:.1f}" for minutes in took)])
    where = ("24 GB", "80 GB", "8 x 80 GB")
    return _markdown(["LLM", *(f"{stage}, {gpus}" for gpus in where for stage in ("sft", "dpo"))], rows)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure() -> None:
    """Compare the formula with the tensors held after a step, and with what autograd saves before the backward pass."""
    import torch
    from dpo import pairs, settings, step, trainer

    from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        config = FlipProbDPOConfig(scratch, **(settings() | {"activation_checkpointing": True}))
        ours = trainer(FlipProbDPOTrainer, config, "smollm2-135m", pairs())
    shape = shape_of(ours.model.config)
    step(ours, [0, 1])
    saved: dict[int, torch.Tensor] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in ours.model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = tensor
        return tensor

    batch = ours.data_collator([ours.train_dataset[row] for row in (0, 1)])
    ours.model.train()
    ours.model.activation_checkpointing_enable()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = ours.compute_loss(ours.model, batch)
    in_forward = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    loss.backward()
    state = [value for entry in ours.optimizer.state.values() for value in entry.values() if value.dim()]
    tokens = batch["input_ids"].numel()
    expected = memory(shape, tokens, reference=True, bf16=False)
    measured = {
        "weights": _bytes(ours.model.parameters()),
        "gradients": _bytes(weight.grad for weight in ours.model.parameters()),
        "optimizer": _bytes(state),
        "reference": _bytes(ours.ref_model.parameters()),
        "inputs of layers": in_forward,
    }
    expected["inputs of layers"] = 4 * shape.hidden * shape.layers * tokens
    table = Table("SmolLM2-135M, float32", "formula, MB", "measured, MB", "ratio")
    for name, value in measured.items():
        table.add_row(name, f"{expected[name] / 1e6:.1f}", f"{value / 1e6:.1f}", f"{value / expected[name]:.3f}")
    table.caption = f"{tokens} tokens in a micro-batch"
    Console(width=110).print(table)


def _bytes(tensors: Any) -> int:
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    main()
