"""A damaged manifest or privacy report ends in one sentence that names what is wrong, before anything is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.publishing.publish import planned
from ifllm_hub.errors import IfllmError

DAMAGES = {
    "a key is gone": ("manifest.json", ["carets"], None, "`carets` is missing or damaged"),
    "a count is gone": ("manifest.json", ["tables", "ai_errors"], None, "`tables.ai_errors` is"),
    "a count is a word": ("manifest.json", ["questions", "all", "workers"], "many", "`questions.all.workers` is"),
    "a count is a flag": ("manifest.json", ["withdrawn", "workers"], True, "`withdrawn.workers` is"),
    "a table is a list": ("manifest.json", ["lines"], [1], "`lines` is"),
    "an entry is damaged": ("manifest.json", ["carets", 0], {}, r"`carets\[0\].schema_version` is"),
    "another tier": ("manifest.json", ["tier"], "secret", "no tier 'secret'"),
    "no k": ("privacy_report.json", ["k_anonymity", "k"], None, "`k_anonymity.k` is"),
    "a report that is a number": ("privacy_report.json", [], 3, "privacy_report.json: is missing or damaged"),
    "a manifest that is a list": ("manifest.json", [], ["collected"], "manifest.json: is missing or damaged"),
    "another manifest": ("manifest.json", [], {"collected": True}, "`tier` is"),
}


def damage(path: Path, keys: list[Any], value: Any) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if not keys:
        content = value
    elif value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("case", DAMAGES)
def test_what_is_damaged_is_named(case: str, dataset: Path, tmp_path: Path) -> None:
    name, keys, value, message = DAMAGES[case]
    copy = shutil.copytree(dataset, tmp_path / "copy")
    damage(copy / name, keys, value)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(IfllmError, match=message):
        write_card(copy)
    with pytest.raises(IfllmError, match=message), planned(copy, "lab/ifllm"):
        pass
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
