"""Save a trained model so that an earlier one is never half overwritten, and explain writes that fail."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError, first_line

SAVING = ".saving"


def save_beside(save: Callable[[Path], None], trainer: Any, output_dir: Path) -> None:
    """Save into a folder of its own, then put each file in its place; every process calls this.

    Args:
        save: writes the weights and what belongs to them into a folder.
    """
    partial = output_dir / SAVING
    if trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    save(partial)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        for file in sorted(path for path in partial.rglob("*") if path.is_file()):
            place = output_dir / file.relative_to(partial)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
        shutil.rmtree(partial)


@contextmanager
def clear_write_errors(output_dir: Path) -> Iterator[None]:
    """Turn a failed write, such as on a full disk, into one error that says what is kept and what to do.

    Raises:
        IfllmError: something could not be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch reports a failed write of its archive as a RuntimeError; other RuntimeErrors are passed on.
        if type(error) is RuntimeError and "PytorchStreamWriter" not in str(error):
            raise
        raise IfllmError(
            f"{output_dir}: cannot be written ({first_line(error)}). What was saved before is intact. Make room there, "
            f"then start again: the run continues from its last checkpoint."
        ) from error
