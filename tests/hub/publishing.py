"""What the tests of `ifllm publish` share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ifllm_hub import cli
from ifllm_hub.dataset.publishing.publish import plan_publication, publish
from tests.hub import client
from tests.hub.server import Hub

REPO = "lab/ifllm"
IFLLM = str(Path(sys.executable).with_name("ifllm"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path, config: str, split: str = "train") -> int:
    return pq.read_metadata(folder / "data" / config / f"{split}-00000-of-00001.parquet").num_rows


def send(folder: Path, **more: object) -> tuple[str, str | None]:
    """Publish on `main`; the commit it is at, and the tag that was set."""
    return publish(plan_publication(folder, REPO), **more)


def titles(hub: Hub) -> list[str]:
    return [commit.title.split(" with ")[0] for commit in hub.dataset(REPO).history("main")]


LOAD = """
import os
import sys
from pathlib import Path
import pyarrow.parquet as pq
from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset
folder, revision = Path(sys.argv[1]), sys.argv[2]
configs = sorted(path.name for path in (folder / "data").iterdir())
assert sorted(get_dataset_config_names("lab/ifllm", revision=revision)) == configs
assert get_dataset_default_config_name("lab/ifllm") == "pairwise"
for config in configs:
    plain = load_dataset("lab/ifllm", config, revision=revision)
    streamed = load_dataset("lab/ifllm", config, revision=revision, streaming=True)
    for split in ("train", "test"):
        table = pq.read_table(folder / "data" / config / f"{split}-00000-of-00001.parquet")
        assert table.num_rows
        assert plain[split].features.arrow_schema.equals(table.schema)
        assert plain[split].data.table.combine_chunks().equals(table.combine_chunks()), (config, split)
        assert list(streamed[split]) == list(plain[split]) == table.to_pylist(), (config, split)
print(len(configs), flush=True)
# A thread of a stream may outlive it and abort the interpreter at its end: huggingface/datasets#7566.
os._exit(0)
"""


def loads_as(hub: Hub, folder: Path, home: Path, revision: str = "main", xet: bool = False) -> None:
    """Every config, plain and streaming, in a fresh process, is what the folder holds."""
    done = client.run(hub, home, sys.executable, "-c", LOAD, folder, revision, xet=xet)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list((folder / "data").iterdir()))


def edit_card(folder: Path, edit: Callable[[dict], None]) -> None:
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    data = yaml.safe_load(head)
    edit(data)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n{body}", encoding="utf-8")


def edit_contents(folder: Path, edit: Callable[[dict], None]) -> None:
    path = folder / "contents.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    edit(contents)
    path.write_text(json.dumps(contents), encoding="utf-8")


def edit_manifest(folder: Path, **changed: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ifllm publish *words`, in this process."""
    monkeypatch.setattr(sys, "argv", ["ifllm", "publish", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err
