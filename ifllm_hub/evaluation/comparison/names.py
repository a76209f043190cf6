"""What the rows and columns of the paper's table are called, and their order."""

from collections.abc import Iterable

from ifllm_hub.align.policies import BASE_MODELS
from ifllm_hub.pages.markdown import one_line

# Columns, in the paper's order: the recipes of our eight LLMs.
LLMS = {
    "gpt2-xl": "GPT2-XL",
    "pythia-2.8b": "Pythia-2.8B",
    "olmo2-1b": "OLMo2-1B",
    "llama3.2-3b": "Llama3.2-3B",
    "qwen2.5-1.5b": "Qwen2.5-1.5B",
    "qwen2.5-3b": "Qwen2.5-3B",
    "qwen3-1.7b": "Qwen3-1.7B",
    "qwen3-4b": "Qwen3-4B",
}
# Rows, in the paper's order. The paper's text model is ModernBERT; behavior is its "IF", implicit feedback.
LABEL_SOURCES = {
    "explicit": "explicit feedback",
    "text_model": "text model",
    "text_model_behavior": "text model + behavior",
    "forest": "forest, mouse + gaze",
    "forest_gaze": "forest, gaze",
    "forest_mouse": "forest, mouse",
}
# This package's own controls, listed after the paper's sources.
_CONTROLS = {"longer": "longer answer", "shuffled": "shuffled labels"}


def llm_order(seen: Iterable[str]) -> list[str]:
    """The columns of a table: all eight LLMs of the paper if one of them was judged, then the others by name.

    So a table of the paper's LLMs shows what it lacks, and one of other LLMs is not padded with eight empty columns.
    """
    return _order(set(seen), LLMS, {}, is_of_the_paper(seen))


def label_source_order(seen: Iterable[str], llms: Iterable[str]) -> list[str]:
    """The rows of a table: all six label sources of the paper if one of its LLMs was judged, then the others."""
    return _order(set(seen), LABEL_SOURCES, _CONTROLS, is_of_the_paper(llms))


def is_of_the_paper(llms: Iterable[str]) -> bool:
    """Whether one of the paper's eight LLMs is among these."""
    return any(llm in BASE_MODELS for llm in llms)


def name_of(key: str) -> str:
    """The display name of an LLM or a label source; of an unknown one, the name it came with, in one line."""
    return (LLMS | LABEL_SOURCES | _CONTROLS).get(key, one_line(key))


def _order(seen: set[str], paper: dict[str, str], controls: dict[str, str], whole: bool) -> list[str]:
    first = [key for key in paper if whole or key in seen]
    return [*first, *(key for key in controls if key in seen), *sorted(seen - paper.keys() - controls.keys())]
