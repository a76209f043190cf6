"""Whatever is sent: no failure of the server, nothing stored, nothing echoed."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.collect.client import batch, registration
from tests.collect.conftest import Site
from tests.collect.server.test_router import NOTHING, token_of

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (
    SCRIPT,
    "../../../../etc/passwd",
    "..\\..\\windows",
    "%2e%2e%2f",
    "'; DROP TABLE batches; --",
    "\x00",
    "\ud800",
    "a\nb",
    "{{7*7}}",
    "x" * 100_000,
    "\u202e",
    "",
)
# The same examples in every run, and no more than a few seconds of them.
FEW = settings(max_examples=5, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_schemathesis_finds_no_failure(site: Site) -> None:
    app = site.client.app
    assert [site.client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404] * 3
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app

    def examined(case: Any) -> None:
        case.call_and_validate(headers={"X-Ifllm-Key": "none"}, checks=CHECKS)

    tried = []
    for result in schema.get_all_operations():
        operation = result.ok()
        FEW(given(case=operation.as_strategy())(examined))()
        tried.append(f"{operation.method.upper()} {operation.path}")
    assert len(tried) == 9
    assert site.store.counts() == NOTHING


def test_hostile_texts_in_every_field(site: Site) -> None:
    sound = {"batches": batch([token_of(site)]), "ratings": {"token": "x"}, "score": {"token": "x"}}
    for path, body in sound.items():
        for field, value in body.items():
            if isinstance(value, int):
                continue
            for text in HOSTILE:
                for hostile in (text, [text], {text: text}):
                    check(post(site, path, {**body, field: hostile}))
        check(post(site, path, {**body, SCRIPT: SCRIPT}))
    assert site.store.counts() == NOTHING


def test_hostile_registrations(site: Site) -> None:
    body = registration("ada", "q1", "left", "text")
    free = {"person", "text", "query", "model"}  # of these fields any text may be the truth
    for field in body:
        for text in HOSTILE:
            response = post(site, "responses", {**body, field: text}, site.key)
            assert response.status_code in ((200, 400) if field in free else (400,)), (field, text[:40])
            assert SCRIPT not in response.text
    # A script as an answer's text is stored as what it is, and not given back.
    assert site.store.counts()["batches"] == 0


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"ticks":['])
def test_deep_bodies(site: Site, opening: bytes) -> None:
    for path in ("batches", "ratings", "score"):
        for depth in (150, 60_000 // len(opening)):
            response = site.client.post(
                f"/ifllm/v1/{path}", content=opening * depth, headers={"Content-Type": "application/json"}
            )
            check(response)
    assert site.store.counts() == NOTHING


def test_path_like_ids(site: Site) -> None:
    for path in ("v1/people/../../etc/passwd", "v1/people/%2e%2e%2f", "ifllm.js/../../secrets.json", "secrets.json"):
        assert site.client.get(f"/ifllm/{path}").status_code in (404, 405)


def post(site: Site, path: str, body: Any, key: str = "") -> Any:
    return site.client.post(
        f"/ifllm/v1/{path}",
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "X-Ifllm-Key": key},
    )


def check(response: Any) -> None:
    assert 400 <= response.status_code < 500
    assert SCRIPT not in response.text
    assert "Traceback" not in response.text
