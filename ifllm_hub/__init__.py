"""How people read LLM answers, as a Hub dataset, a reward model and preference-tuned LLMs (arXiv 2606.20482)."""

from typing import TYPE_CHECKING, Any

from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward

__version__ = "0.1.0"

__all__ = ["IfllmError", "ImplicitFeedbackReward", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the reward model, and numpy with it, only when it is asked for."""
    if name != "ImplicitFeedbackReward":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward

    return ImplicitFeedbackReward
