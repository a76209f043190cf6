"""Which pages may report: their own, those that are named, and what the others are told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ifllm_hub.collect.settings import Settings
from ifllm_hub.errors import IfllmError
from tests.collect.client import ORIGIN, batch, encoded
from tests.collect.conftest import Site


def test_pages_of_other_origins_are_refused(site: Site) -> None:
    body = encoded(batch(site.pair("ada", "q1")))
    for origin in ("https://evil.example.org", "null", f"{ORIGIN}.evil.example.org", ORIGIN.replace("https", "http")):
        response = site.client.post(
            "/ifllm/v1/batches", content=body, headers={"Content-Type": "text/plain", "Origin": origin}
        )
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
        assert site.client.options("/ifllm/v1/batches", headers={"Origin": origin}).status_code == 403
    assert site.store.counts()["batches"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:7860", "Host": "localhost:7860"},
        {"Origin": "http://192.0.2.7", "Host": "192.0.2.7"},
        {"Origin": "https://a.tunnel.example", "Host": "127.0.0.1:7860", "X-Forwarded-Host": "a.tunnel.example"},
        {"Origin": "https://uni.example.org", "Host": "127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_the_own_pages_may_report_whatever_they_are_called(site: Site, headers: dict[str, str]) -> None:
    body = encoded(batch(site.pair("ada", "q1")))
    sent = site.client.post("/ifllm/v1/batches", content=body, headers={"Content-Type": "text/plain", **headers})
    assert sent.status_code == 202
    assert site.client.get("/ifllm/ifllm.js", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:3000", "Host": "localhost:7860", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null", "Host": "localhost:7860", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://", "Host": ""},
        {"Origin": "ftp://localhost:7860", "Host": "localhost:7860"},
    ],
)
def test_who_is_refused_is_told_of_once(site: Site, caplog: pytest.LogCaptureFixture, headers: dict[str, str]) -> None:
    with caplog.at_level("WARNING", logger="ifllm_hub"):
        for _ in range(3):
            assert site.client.get("/ifllm/ifllm.js", headers=headers).status_code == 403
        told = [record.getMessage() for record in caplog.records]
        assert told == [
            f"pages of {headers['Origin']!r} are refused and record nothing: to allow them, name it as an origin "
            "(--origin)"
        ]
        for number in range(30):  # and the log is not filled by who makes them up
            assert site.client.get("/ifllm/ifllm.js", headers={"Origin": f"https://{number}.org"}).status_code == 403
    assert len(caplog.records) == 16


def test_allowed_pages_are_told_so(site: Site) -> None:
    preflight = site.client.options(
        "/ifllm/v1/people/me",
        headers={"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"},
    )
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    refused = site.send(["x"])  # a page must be able to read that it was refused
    for response in (preflight, refused):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Chat.Example.org:443", "https://chat.example.org"),
        ("HTTP://chat.example.org:80/", "http://chat.example.org"),
        ("http://chat.example.org:443", "http://chat.example.org:443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[0:0::1]:8080", "http://[::1]:8080"),
        ("tauri://localhost", "tauri://localhost"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("app://-", "app://-"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("file://", "file://"),
        ("null", "null"),
    ],
)
def test_origins_as_browsers_and_app_shells_send_them(make_site: Callable[..., Site], given: str, sent: str) -> None:
    site = make_site(origins=(given,))
    answer = site.client.get("/ifllm/v1/health", headers={"Origin": sent})
    assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, sent)


@pytest.mark.parametrize(
    "given",
    [
        "chat.example.org",
        "https://*.example.org",
        "*",
        "https://uni.example.org/lab",
        "https://a@b",
        "https://a?b",
        "https://a#b",
        "localhost:7860",
        "https://",
        "",
    ],
)
def test_what_is_no_origin(tmp_path: Path, given: str) -> None:
    with pytest.raises(IfllmError, match="not an origin"):
        Settings(tmp_path, origins=(given,))


def test_a_page_that_is_refused_can_read_that(site: Site) -> None:
    """And nothing else: not what becomes of a token, nor the refusal of anything but this question."""
    elsewhere = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    body = encoded({"responses": [site.register("ada", "q1")["token"]]})
    refused = site.client.post("/ifllm/v1/check", content=body, headers=elsewhere)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    for path in ("batches", "ratings", "score"):
        other = site.client.post(f"/ifllm/v1/{path}", content=body, headers=elsewhere)
        assert "Access-Control-Allow-Origin" not in other.headers
    assert site.client.post("/ifllm/v1/check", content=body).headers["Access-Control-Allow-Origin"] == ORIGIN
