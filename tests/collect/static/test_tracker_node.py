"""What of the scripts needs no browser: their unit tests under Node, the tracker's size, and its types."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.collect.wire import STATIC

SOURCE = (STATIC / "tracker.js").read_text()
LIMIT = 10 * 1024


@pytest.mark.parametrize(("script", "least"), [("tracker", 15), ("study", 2), ("chat", 7), ("camera", 6)])
def test_the_unit_tests_under_node(script: str, least: int) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node 20 or later (Debian: apt install nodejs)")
    tests = Path(__file__).parent / f"{script}.test.mjs"
    ran = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(re.findall(r"(?:#|ℹ) pass (\d+)", ran.stdout)[0]) >= least
    assert re.findall(r"(?:#|ℹ) (?:skipped|todo) (\d+)", ran.stdout) == ["0", "0"]


def test_it_is_at_most_10_kb() -> None:
    """Compressed, without comments and indentation; no name is shortened."""
    code = re.sub(r"^\s*/\*\*[\s\S]*?\*/\n|^\s*//.*\n|^\s+| // .*$", "", SOURCE, flags=re.MULTILINE)
    assert "createTracker" in code
    assert len(gzip.compress(code.encode(), 9)) <= LIMIT


def test_it_depends_on_nothing() -> None:
    code = SOURCE.replace('import("./diagnose.js")', "")  # on demand
    assert not re.search(r"^import |\bimport\(|\brequire\(|https?://", code, re.MULTILINE)


def test_the_types_name_what_there_is() -> None:
    types = (STATIC / "tracker.d.ts").read_text()
    made = SOURCE[SOURCE.rindex("{\n    grantConsent") :]
    methods = set(re.findall(r"^    (?:async )?(\w+)(?:\(|: \()", made, re.MULTILINE))
    assert methods == set(re.findall(r"^  (\w+)\(", types[types.index("interface Tracker {") :], re.MULTILINE))
    taken = " ".join(re.findall(r"const (\{ .* \}) = options;", SOURCE))
    options = set(re.findall(r"[{,] (\w+)", re.sub(r"\[.*?\]", "", taken)))
    declared = types[types.index("interface TrackerOptions") : types.index("interface Tracker {")]
    assert options == set(re.findall(r"^  (\w+)\??:", declared, re.MULTILINE))
    assert set(re.findall(r"^export function (\w+)", SOURCE, re.MULTILINE)) == set(
        re.findall(r"^export function (\w+)", types, re.MULTILINE)
    )
