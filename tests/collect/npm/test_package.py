"""What is in the npm package, and what it says of itself."""

import gzip
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.collect.npm.conftest import NAME, ROOT, STATIC, run
from tests.docs.place import BLOCKS
from tests.docs.snippets import Fence

ENTRIES = {
    NAME: "dist/ifllm.js",
    f"{NAME}/iife": "dist/ifllm.iife.js",
    f"{NAME}/react": "react.js",
    f"{NAME}/assistant-ui": "assistant-ui.js",
}
LIMIT_KB = 10
# In Node, reading one of these would make them known.
SPY = """
for (const name of ["window", "document", "navigator", "location", "localStorage", "self"]) {
  Object.defineProperty(globalThis, name, { get() { console.log("reads", name); } });
}
const before = Object.getOwnPropertyNames(globalThis).length;
const { charAt, codePoints, createTracker } = await import("./dist/ifllm.js");
const { createFeedbackAdapter } = await import("./assistant-ui.js");
for (const made of [charAt, codePoints, createTracker, createFeedbackAdapter]) {
  if (typeof made !== "function") console.log("is missing");
}
if (Object.getOwnPropertyNames(globalThis).length !== before) console.log("leaves a global");
"""


def test_it_has_these_files(package: Path) -> None:
    files = {str(file.relative_to(package)) for file in package.rglob("*") if file.is_file()}
    types = {"dist/ifllm.d.ts", "react.d.ts", "assistant-ui.d.ts"}
    assert files == {*ENTRIES.values(), *types, "dist/diagnose.js", "package.json", "README.md", "LICENSE"}
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_what_it_says_of_itself(package: Path) -> None:
    said = json.loads((package / "package.json").read_text())
    assert (said["name"], said["license"], said["type"]) == (NAME, "Apache-2.0", "module")
    assert said["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert said["sideEffects"] is False
    assert "dependencies" not in said
    named = [
        path for entry in said["exports"].values() for path in (entry.values() if isinstance(entry, dict) else [entry])
    ]
    assert all((package / path).is_file() for path in named)


def test_its_code_is_the_collectors(package: Path) -> None:
    """Each line of the tracker but for comments and the part that starts from a tag."""
    source, _ = (ROOT / STATIC / "tracker.js").read_text().split("function startFromTag() {")
    code = [line for line in source.splitlines() if not line.lstrip().startswith(("/**", "*", "//"))]
    module = (package / "dist/ifllm.js").read_text().splitlines()[1:]
    assert module == "\n".join(code).strip().splitlines()
    for name in ("tracker.d.ts", "diagnose.js"):
        packed = package / "dist" / name.replace("tracker", "ifllm")
        assert packed.read_bytes() == (ROOT / STATIC / name).read_bytes()


def test_its_sizes_are_those_of_the_readme(package: Path) -> None:
    readme = (package / "README.md").read_text()
    stated = {
        entry: float(kb) for entry, kb in re.findall(r"^\| `([\w/-]+)` \|.*\| ([\d.]+) kB \|$", readme, re.MULTILINE)
    }
    sizes = {entry: len(gzip.compress((package / file).read_bytes(), 9)) / 1000 for entry, file in ENTRIES.items()}
    assert sizes == pytest.approx(stated, abs=0.1)
    assert max(sizes.values()) <= LIMIT_KB


def test_its_readme_has_the_blocks_of_the_page(package: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (package / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [Fence(*block) for block in blocks] == [BLOCKS["answers.jsx"], BLOCKS["feedback.js"]]


def test_importing_it_in_node_does_nothing(package: Path) -> None:
    node = shutil.which("node")
    assert node
    ran = subprocess.run(
        [node, "--input-type=module"], cwd=package, input=SPY, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.slow
def test_its_types(app: Path) -> None:
    """Of the package without looking away, and of the app that uses them, whose libraries have errors of their own."""
    run("npx", "tsc", folder=app)
    declared = [Path("node_modules") / NAME / file for file in ("dist/ifllm.d.ts", "react.d.ts", "assistant-ui.d.ts")]
    flags = "--noEmit --strict --target es2022 --module esnext --moduleResolution bundler --types react"
    run("npx", "tsc", *flags.split(), *declared, folder=app)


@pytest.mark.slow
def test_react_renders_it_on_a_server(app: Path) -> None:
    code = f"""
      import {{ createElement as h }} from "react";
      import {{ renderToString }} from "react-dom/server";
      import {{ useIfllm, useIfllmAnswer }} from "{NAME}/react";
      function Page() {{
        const {{ tracker, state }} = useIfllm({{ endpoint: "/", person: "P", consentVersion: "1", agreed: true }});
        return h("p", useIfllmAnswer(tracker, "T"), state);
      }}
      console.log(renderToString(h(Page)), globalThis.ifllm);"""
    said = run("node", "--input-type=module", "--eval", code, folder=app)
    assert said == '<p data-ifllm-response="T">off</p> undefined\n'
