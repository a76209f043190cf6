"""docs/collector.md: each of its blocks is what its language says, and what it names exists.

That they work is shown in test_collector_site.py.
"""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from fastapi.testclient import TestClient

from ifllm_hub.cli import app
from ifllm_hub.collect.server.app import create_app
from ifllm_hub.collect.settings import Settings
from tests.collect.live.observed import PUBLIC_KEY, SECRET_KEY, Observer, attributes
from tests.collect.store.processes import free_port
from tests.docs.snippets import Fence, fences

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/collector.md").read_text(encoding="utf-8")
BLOCKS = fences(PAGE)
# What is run, or opened in a browser, against real servers.
RUN = {
    *("serve", "app.py", "static/recording.js", "static/index.html", "app", "chat.jsx", "static/react.html", "react"),
    *("chat.py", "gradio", "embedded page", "state", "tag", "problem", "gaze", "study", "space", "export"),
    *("package", "answers.jsx", "feedback.js"),  # tests/collect/npm
    *("router", "emit"),  # here
}
NOT_RUN = {
    "install": "this checkout is tested, not a release of it; here: the extra that it names exists",
    "check": "chat.example.org is nobody's: tests/collect/test_check_command.py runs it; here: as for `install`",
    "chat.conf": "it has the name and the certificate of a host; here: nginx reads it with others",
}


def test_every_block_is_run_or_there_is_a_reason() -> None:
    assert set(BLOCKS) == RUN | set(NOT_RUN)
    assert not RUN & set(NOT_RUN)
    assert {name: block.language for name, block in BLOCKS.items() if "." in name} == {
        "app.py": "python",
        "chat.py": "python",
        "chat.jsx": "jsx",
        "answers.jsx": "jsx",
        "feedback.js": "js",
        "chat.conf": "nginx",
        "static/recording.js": "js",
        "static/index.html": "html",
        "static/react.html": "html",
    }


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=name) for name, block in BLOCKS.items() if block.language in languages]


@pytest.mark.parametrize("block", of("python"))
def test_what_python_imports_exists(block: Fence) -> None:
    imports = [node for node in ast.walk(ast.parse(block.code)) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), ast.dump(
                node
            )


@pytest.mark.parametrize("block", of("sh"))
def test_what_commands_are_given_they_take(block: Fence) -> None:
    script = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)
    assert script.stderr == ""
    for line in block.code.replace("\\\n", "").splitlines():
        program, *words = line.split("#")[0].replace('"Ada Example, ada@example.org"', "Ada").split()
        if program == "ifllm":
            parsed(words)


def parsed(words: list[str]) -> None:
    """As typer parses a command, which it does not run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("ifllm", list(words), resilient_parsing=True)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words), parent=context)


def test_the_flags_settings_and_addresses_in_its_text_exist(tmp_path: Path) -> None:
    text = re.sub("^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    commands: Any = typer.main.get_command(app)
    everything = [*commands.commands.values(), *commands.commands["collect"].commands.values()]
    known = {flag for command in everything for parameter in command.params for flag in parameter.opts}
    others = {"--squash", "--log-cli-level"}  # of pytest's command, and of `ifllm publish`, if it is not among these
    assert set(re.findall(r"(?<=[`(\[ ])--[a-z][a-z-]+", text)) <= known | others
    limits = re.search(r"^\*\*Limits\*\*.*?\n\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert limits
    named = {name for row in limits[1].splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named
    assert named <= {field.name for field in fields(Settings)}
    paths = create_app(Settings(tmp_path)).openapi()["paths"]
    taken = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    tabled = re.findall(r"^\| `(GET|POST|DELETE)(?:`, `HEAD)? \{base\}(/[\w/]+)`", text, re.MULTILINE)
    assert {f"{method} /ifllm{path}" for method, path in tabled} == taken
    assert {f"/ifllm{path}" for path in re.findall(r"(?:GET|POST|DELETE) (?:\{base\})?(/v1/[\w/]+)", text)} <= set(
        paths
    )


@pytest.mark.parametrize("block", of("js"))
def test_scripts_are_scripts(block: Fence) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node")
    checked = [node, "--check", "--input-type=module"]
    assert subprocess.run(checked, input=block.code, capture_output=True, text=True, check=False).stderr == ""


class _Elements(HTMLParser):
    """Of which elements a page consists, and whether each is closed."""

    open_ended = ("meta", "input", "!doctype")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.open_ended:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("block", of("html"))
def test_pages_are_pages(block: Fence) -> None:
    elements = _Elements()
    elements.feed(block.code)
    elements.close()
    assert elements.open == []


def test_the_collector_in_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "router"}
    exec(compile(BLOCKS["router"].code, "router.py", "exec", dont_inherit=True), names)
    with TestClient(names["app"]) as client:
        person, token = client.get("/api/reader/ada").json(), client.post("/api/answers/ada/q1").json()
        assert client.post("/ifllm/v1/ratings", json={"token": token, "rating": 5}).status_code == 202
        forgotten = client.delete("/ifllm/v1/people/me", headers={"Authorization": f"Bearer {person}"})
        assert forgotten.status_code == 204
        assert client.post("/ifllm/v1/ratings", json={"token": token, "rating": 5}).status_code == 410


def test_scores_are_sent_on() -> None:
    """By environment variables alone, as a server would: from both clients, of both answers."""
    ids = [{"completion": f"chatcmpl-{n}", "trace": f"{n}" * 32, "span": f"{n}" * 16} for n in (1, 2)]
    answers = dict(zip(("left", "right"), ids, strict=True))
    code = BLOCKS["emit"].code + f"send_on({{'probability_left': 0.75}}, {answers})\n"
    observer = Observer()
    langfuse = {"BASE_URL": observer.url, "PUBLIC_KEY": PUBLIC_KEY, "SECRET_KEY": SECRET_KEY}
    said = {"OTEL_EXPORTER_OTLP_ENDPOINT": observer.url, **{f"LANGFUSE_{key}": what for key, what in langfuse.items()}}
    environment = {**os.environ, **said, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)
    observer.close()
    assert [attributes(event)["gen_ai.evaluation.score.value"] for event in observer.events] == [0.75, 0.25]
    assert [score["value"] for score in observer.scores] == [0.75, 0.25]
    assert [score["observationId"] for score in observer.scores] == ["1" * 16, "2" * 16]


def test_the_extra_that_is_installed_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = BLOCKS["install"].code + BLOCKS["check"].code
    named = re.findall(r"pip install '(\w+)\[([\w,]+)\]'", installs)
    for name, extra in ((name, extra) for name, extras in named for extra in extras.split(",")):
        assert name == project["name"]
        assert extra in project["optional-dependencies"]


def test_nginx_takes_its_part(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("needs nginx (Debian: apt install nginx)")
    key = ("-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", "/CN=chat.example.org")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *key]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    server = BLOCKS["chat.conf"].code.replace("/etc/letsencrypt/live/chat.example.org", str(tmp_path))
    server = server.replace("listen 443", f"listen {free_port()}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    here = " ".join(f"{kind}_temp_path {kind};" for kind in kinds)
    main = f"pid nginx.pid; error_log stderr; events {{}} http {{ access_log off; {here} {server} }}"
    (tmp_path / "nginx.conf").write_text(main)
    said = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-c", "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
