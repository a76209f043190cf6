"""The text encoder: mean pooling against a loop over texts, the cache, and the contrast of two answers."""

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.protocol import text
from ifllm_hub.reward.protocol.candidates import TEXT_CONTRAST
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.reward.protocol.text import embedded, with_text_contrast

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("the", "a", "red", "green", "boat", "sails", "far", "away", "home"),
)
TEXTS = ["the red boat", "a green boat sails far away", "home", "the boat sails home the boat sails home"]


def encoder(folder: Path, seed: int) -> str:
    """A random BERT of a few words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=300,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return encoder(tmp_path_factory.mktemp("encoder"), 0)


def test_an_embedding_is_the_mean_of_the_tokens_whatever_the_batch(tiny: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = embedded(TEXTS, tiny, tmp_path / "text.parquet")
    model, tokenizer = AutoModel.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    for one in TEXTS:
        with torch.inference_mode():
            mean = model(**tokenizer(one, return_tensors="pt")).last_hidden_state[0].mean(dim=0).numpy()
        assert found[one] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert np.ptp([vector[0] for vector in found.values()]) > 1e-3


def test_what_was_embedded_once_is_not_embedded_again(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    encode = text._encode

    def spy(texts: list[str], *rest: Any) -> np.ndarray:
        asked.append(texts)
        return encode(texts, *rest)

    monkeypatch.setattr(text, "_encode", spy)
    cache = tmp_path / "text.parquet"
    first = embedded(TEXTS[:2], tiny, cache)
    again = embedded(TEXTS[:2], tiny, cache)
    more = embedded(TEXTS[1:], tiny, cache)
    assert asked == [TEXTS[:2], TEXTS[2:]]
    for one in TEXTS[:2]:
        assert np.array_equal(first[one], again[one])
    assert np.array_equal(first[TEXTS[1]], more[TEXTS[1]])
    other = embedded(TEXTS[:2], encoder(tmp_path / "other", 1), cache)
    assert asked[2:] == [TEXTS[:2]], "another encoder has its own embeddings"
    assert not np.allclose(other[TEXTS[0]], first[TEXTS[0]])


def test_the_contrast_is_left_minus_right(tiny: str, tmp_path: Path) -> None:
    sides = {"response_left": ["the red boat", "home"], "response_right": ["home", "home"]}
    pairs = with_text_contrast(Pairs(pl.DataFrame(sides)), tiny, tmp_path / "text.parquet")
    vectors = embedded(["the red boat", "home"], tiny, tmp_path / "text.parquet")
    contrast = pairs.rows[TEXT_CONTRAST].to_numpy()
    assert contrast.shape == (2, 24)
    assert np.array_equal(contrast[0], vectors["the red boat"] - vectors["home"])
    assert not contrast[1].any()


def test_a_damaged_cache_is_named(tiny: str, tmp_path: Path) -> None:
    cache = tmp_path / "text.parquet"
    cache.write_bytes(b"PAR1 and nothing")
    with pytest.raises(IfllmError, match=rf"{cache}: damaged .* Delete it"):
        embedded(TEXTS, tiny, cache)


def test_the_default_encoder_is_there_only_with_all_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleSpec(text._MINILM_MODULE, None, origin=str(tmp_path / "__init__.py"))
    installed = {name: ModuleSpec(name, None) for name in ("transformers", "torch")} | {package.name: package}
    monkeypatch.setattr(text.importlib.util, "find_spec", installed.get)
    assert text.find_text_model() == str(tmp_path / "model")
    for name in list(installed):
        kept = installed.pop(name)
        assert text.find_text_model() is None
        installed[name] = kept


def test_an_encoder_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"The text encoder '.*nothing' cannot be loaded"):
        embedded(TEXTS, str(tmp_path / "nothing"), tmp_path / "text.parquet")
