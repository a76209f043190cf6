"""Random language models of any architecture, with the tokenizer of the tiny policy."""

from typing import Any

import torch
import transformers

from ifllm_hub.align.policies import tiny_tokenizer


def tiny_llm(architecture: str, sizes: dict[str, Any]) -> tuple[Any, Any]:
    """A model that is the same each time, and its tokenizer.

    Args:
        sizes: of the architecture's configuration, by its own names.
    """
    tokenizer = tiny_tokenizer()
    config = transformers.AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config), tokenizer
