"""The flags of the training scripts: which data, which policy, how they are read, and what a card says of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.policies import accelerator_available, multiplies_bfloat16, policy_origin
from ifllm_hub.align.runs.push import model_name
from ifllm_hub.align.runs.script import paths_at_home
from ifllm_hub.dataset.load import commit_on_hub
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.load import fingerprint
from ifllm_hub.terminal import given_words

if TYPE_CHECKING:
    from datasets import DatasetDict

# Settings that mean nothing on another machine, or must not be shown.
PRIVATE_SETTINGS = {
    *("config", "dataset", "output_dir", "disable_tqdm"),
    *("push_to_hub", "hub_model_id", "hub_token", "force_push"),
}


@dataclass
class DataArguments:
    """Which data to train on."""

    dataset: str = field(metadata={"help": "Folder laid out like the Hub repo, or Hub dataset id."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a Hub dataset; leave out for a folder."}
    )
    train_size: int | None = field(
        default=None, metadata={"help": "Train on at most this many rows, drawn with the seed; all if unset."}
    )
    test_size: int | None = field(
        default=None, metadata={"help": "Evaluate on at most this many test rows, drawn with the seed; all if unset."}
    )
    force_push: bool = field(
        default=False, metadata={"help": "With push_to_hub: replace all of a repo that holds something else."}
    )


@dataclass
class PolicyArguments(DataArguments):
    """Which language model to train, and which of its weights."""

    policy: str = field(default="smollm2-135m", metadata={"help": "tiny, smollm2-135m, a folder or a Hub model id."})
    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter on all linear layers, then merge it."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapter; the update is alpha / r * BA."})
    lora_layers: int | None = field(
        default=None, metadata={"help": "Adapt only this many of the last layers; all if unset."}
    )
    frozen_weights: Literal["float32", "auto"] = field(
        default="float32",
        metadata={"help": "Weights that LoRA leaves as they are; auto: bfloat16 where the machine multiplies in it."},
    )

    @property
    def load_in(self) -> Literal["float32", "bfloat16"]:
        """The data type of the policy's weights in training; those of an adapter are float32."""
        is_short = self.lora and self.frozen_weights == "auto" and multiplies_bfloat16()
        return "bfloat16" if is_short else "float32"


def parse_arguments(
    arguments: type, configuration: type, argv: Sequence[str] | None = None, **defaults: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """Read the flags, and the recipe named by `--config` whose values they override, with TRL's parser.

    Without an accelerator `use_cpu` is on, `bf16` and activation checkpointing are off.

    Args:
        arguments: one of this package's dataclasses.
        configuration: the trainer's configuration class.
        defaults: values for settings that neither the recipe nor a flag gives.

    Returns:
        An instance of each, and the values that were given, by name.

    Raises:
        IfllmError: the recipe cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse itself refuses.
    """
    import yaml
    from trl.scripts.utils import TrlParser

    words = given_words() if argv is None else list(argv)
    types: Any = (arguments, configuration)
    # The usage text of argparse would list some 200 flags before it says what was wrong.
    parser = TrlParser(types, usage="%(prog)s --config recipe.yaml [--flag value ...]", allow_abbrev=False)
    if not accelerator_available():
        defaults = {"use_cpu": True, "bf16": False, "activation_checkpointing": False} | defaults
    parser.set_defaults(**defaults)
    try:
        args, config = parser.parse_args_and_config(list(words))
        given = _given(words)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"The recipe or a flag is not accepted: {error} Correct it, or see --help.") from error
    values = config.to_dict() | asdict(paths_at_home(args))
    return args, config, {name: values[name] for name in sorted(given) if name in values}


def _given(words: list[str]) -> set[str]:
    """The names set by the recipe or by a flag, as far as a card may show them."""
    import yaml

    names = {word[2:].partition("=")[0].replace("-", "_").removeprefix("no_") for word in words if word[:2] == "--"}
    if "--config" in words:
        names |= set(yaml.safe_load(Path(words[words.index("--config") + 1]).read_text()))
    return names - PRIVATE_SETTINGS


def dataset_commit(args: DataArguments) -> str | None:
    """The commit that a Hub dataset's revision names now; the revision itself if offline; None for a folder.

    Raises:
        IfllmError: a folder is given with a revision, there is no such dataset, or the Hub cannot be reached.
    """
    from huggingface_hub import is_offline_mode

    is_folder = Path(args.dataset).is_dir()
    if is_folder and args.dataset_revision is not None:
        raise IfllmError(
            f"{args.dataset} is a folder and has no revision {args.dataset_revision!r}. Leave the revision out."
        )
    if is_folder or is_offline_mode():
        return args.dataset_revision
    return commit_on_hub(args.dataset, args.dataset_revision)


def describe_data(args: DataArguments, data: "DatasetDict", commit: str | None) -> dict[str, Any]:
    """What a card says about the data."""
    return {
        "dataset": args.dataset,
        "dataset_on_hub": not Path(args.dataset).is_dir(),
        "dataset_revision": commit,
        "dataset_fingerprint": fingerprint(data["train"]),
        "test_fingerprint": fingerprint(data["test"]),
        "train_rows": len(data["train"]),
        "test_rows": len(data["test"]),
    }


def describe_policy(args: PolicyArguments) -> dict[str, Any]:
    """What a card says about the model before training."""
    origin = policy_origin(args.policy)
    return {
        "llm": model_name(args.policy),
        "model": args.policy,
        "base_model": origin.base_model,
        "weights": origin.weights,
        "license": origin.license,
        "lora": lora_settings(args),
    }


def lora_settings(args: PolicyArguments) -> dict[str, int | str | None] | None:
    """The adapter, for `results.json` and the card, and what it was trained beside, if that was not float32."""
    if not args.lora:
        return None
    frozen = {} if args.load_in == "float32" else {"frozen_weights": args.load_in}
    return {"r": args.lora_r, "alpha": args.lora_alpha, "layers": args.lora_layers, **frozen}
