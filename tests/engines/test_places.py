"""Files appear whole or not at all, here and at an address; one run at a time writes to a place."""

import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from ifllm_hub.engines.accounts import unless_done
from ifllm_hub.engines.places import files_in, locked, opened, read_json, remove, staged, write_json
from ifllm_hub.errors import IfllmError


@pytest.fixture(params=["disk", "address"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "place")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/place"


def write(folder: str, **content: str) -> None:
    with staged(folder) as stage:
        for name, text in content.items():
            (stage / name).write_text(text)


def read(file: str) -> bytes:
    with opened(file) as stream:
        return stream.read_bytes() if isinstance(stream, Path) else stream.read()


def test_files_take_their_places_together(place: str) -> None:
    assert files_in(place) == {}
    write(f"{place}/data", a="1", b="22")
    first = files_in(place)
    assert list(first) == ["data/a", "data/b"]
    assert read(f"{place}/data/b") == b"22"
    write(f"{place}/data", b="33")
    now = files_in(place)
    assert now["data/a"] == first["data/a"]
    assert now["data/b"] != first["data/b"]
    assert list(files_in(place, "b")) == ["data/b"]
    remove(f"{place}/data")
    assert files_in(place) == {}
    remove(f"{place}/data")


def test_what_fails_leaves_nothing(place: str) -> None:
    def fail() -> None:
        with staged(place) as stage:
            (stage / "a").write_text("after")
            raise ZeroDivisionError

    write(place, a="before")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert read(f"{place}/a") == b"before"
    assert list(files_in(place)) == ["a"]


def test_json(place: str) -> None:
    assert read_json(f"{place}/x.json") is None
    write_json(place, "x.json", {"a": [1, None]})
    assert read_json(f"{place}/x.json") == {"a": [1, None]}
    write(place, **{"x.json": '{"a": '})
    assert read_json(f"{place}/x.json") is None


def test_a_second_run_refuses(place: str) -> None:
    with locked(place):
        with pytest.raises(IfllmError, match="another run is writing there"), locked(place):
            raise AssertionError
        write(place, a="1")
    with locked(place):
        assert read(f"{place}/a") == b"1"


def test_a_stale_object_is_named(place: str) -> None:
    if "://" not in place:
        pytest.skip("a disk has a lock of the system's")
    fsspec.filesystem("memory").pipe_file(f"{place}/.lock", b"process 7 of elsewhere")
    with pytest.raises(IfllmError, match=rf"\(process 7 of elsewhere\).*delete {place}/\.lock and"), locked(place):
        raise AssertionError
    remove(f"{place}/.lock")
    with locked(place):
        pass


def test_a_killed_run_leaves_no_file_and_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from ifllm_hub.engines.places import locked, staged\n"
        "with locked(sys.argv[1]), staged(sys.argv[1] + '/data') as stage:\n"
        "    (stage / 'a').write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "data/a").exists()
    assert list(tmp_path.glob("data/.staged-*/a"))
    with locked(str(tmp_path)):
        assert not list(tmp_path.glob("data/.staged-*"))


@pytest.mark.parametrize("place", ["hf://datasets/owner/name", "hf://owner/name/data"])
def test_a_dataset_repo_is_no_place_to_write_to(place: str) -> None:
    with pytest.raises(IfllmError, match=r"every file would be a commit .*`ifllm publish`"), locked(place):
        raise AssertionError


@pytest.mark.parametrize("place", ["nothing://bucket/x", "/proc/nobody/may"])
def test_a_place_that_cannot_be_used_is_named(place: str) -> None:
    with pytest.raises(IfllmError, match=f"^{place}: cannot be used"), locked(place):
        raise AssertionError


def test_a_missing_file_is_named() -> None:
    with pytest.raises(IfllmError, match=r"^memory://bucket/x: missing\."), opened("memory://bucket/x"):
        raise AssertionError


def test_nothing_is_done_twice_unless_something_changed(place: str) -> None:
    calls: list[str] = []

    def once(inputs: dict, text: str = "1") -> dict:
        def work() -> dict:
            calls.append(text)
            write(f"{place}/data", a=text)
            return {"rows": int(text)}

        return unless_done(place, "shard", inputs, ["data/a"], work)

    assert once({"of": ("x", 1)}) == {"rows": 1}
    assert once({"of": ("x", 1)}, "2") == {"rows": 1}
    assert once({"of": ("y", 1)}, "3") == {"rows": 3}
    remove(f"{place}/data/a")
    assert once({"of": ("y", 1)}, "44") == {"rows": 44}
    write(f"{place}/data", a="somebody else's")
    assert once({"of": ("y", 1)}, "5") == {"rows": 5}
    write(f"{place}/.accounts", **{"shard.json": "{"})
    assert once({"of": ("y", 1)}, "6") == {"rows": 6}
    assert calls == ["1", "3", "44", "5", "6"]
