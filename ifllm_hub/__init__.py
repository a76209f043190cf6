"""How people read LLM answers, as a Hub dataset, a reward model and preference-tuned LLMs (arXiv 2606.20482)."""

from ifllm_hub.errors import IfllmError

__version__ = "0.1.0"

__all__ = ["IfllmError", "__version__"]
