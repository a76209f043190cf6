"""What was done for each shard, so that the same command, run again, does only what is missing."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ifllm_hub.engines.places import at, mark_of, read_json, write_json

FOLDER = "accounts"


def unless_done(
    out: str, name: str, inputs: Mapping[str, Any], files: Sequence[str], work: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Do a shard's work, unless its account says that the same was done, and the files are there as they were left.

    Args:
        out: the folder of the run; the account is `accounts/<name>.json` in it, written last.
        inputs: all that the files depend on, to be compared with those of the account.
        files: that `work` writes, by their path in `out`.

    Returns:
        What `work` returned, now or then.
    """
    place = at(out, FOLDER)
    asked = json.loads(json.dumps(inputs))
    earlier = read_json(at(place, f"{name}.json"))
    if earlier and earlier["inputs"] == asked and earlier["files"] == _marks(out, files):
        return earlier["result"]
    result = dict(work())
    write_json(place, f"{name}.json", {"inputs": asked, "files": _marks(out, files), "result": result})
    return result


def _marks(out: str, files: Sequence[str]) -> dict[str, str | None]:
    return {file: mark_of(at(out, file)) for file in files}
