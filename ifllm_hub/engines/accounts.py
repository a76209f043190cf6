"""What was done for each shard, so that the same command, run again, does only what is missing."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ifllm_hub.engines.places import at, mark_of, read_json, write_json
from ifllm_hub.files import link_or_copy

# Hidden, so that nobody publishes it.
FOLDER = ".accounts"


def unless_done(
    out: str, name: str, inputs: Mapping[str, Any], files: Sequence[str], work: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Do a shard's work, unless its account says that the same was done, and the files are there as they were left.

    Args:
        out: the folder of the run; the account is `.accounts/<name>.json` in it, written last.
        inputs: all that the files depend on, to be compared with those of the account.
        files: that `work` writes, by their path in `out`.

    Returns:
        What `work` returned, now or then.
    """
    place = at(out, FOLDER)
    asked = json.loads(json.dumps(inputs))
    earlier = read_json(at(place, f"{name}.json")) or {}
    if earlier.get("inputs") == asked and earlier.get("files") == _marks(out, files):
        return dict(earlier["result"])
    result = dict(work())
    write_json(place, f"{name}.json", {"inputs": asked, "files": _marks(out, files), "result": result})
    return result


def take_over(earlier: Path, out: Path, name: str, inputs: Mapping[str, Any], files: Sequence[str]) -> None:
    """Let a folder of this machine have a shard of an earlier one, if `unless_done` would not do it again there.

    The two share the files: whoever replaces one must not change it in place.
    """
    account = read_json(at(str(earlier), FOLDER, f"{name}.json"))
    if not account or account["inputs"] != json.loads(json.dumps(inputs)):
        return
    if account["files"] != _marks(str(earlier), files):
        return
    for file in files:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).unlink(missing_ok=True)
        link_or_copy(earlier / file, out / file)
    write_json(at(str(out), FOLDER), f"{name}.json", account)


def _marks(out: str, files: Sequence[str]) -> dict[str, str | None]:
    return {file: mark_of(at(out, file)) for file in files}
