"""A release behind a URL (here of a loopback server): fetched once, never kept half, and a failure says what to do."""

import http.server
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import Release, open_release


@dataclass
class Site:
    """What a loopback server answers, and what it was asked."""

    url: str = ""
    content: bytes = b""
    status: int = 200
    stop_after: int | None = None
    chunked: bool = False
    asked: list[str] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.site.asked.append(self.path)
        self.send_response(self.site.status)
        body = self.site.content[: self.site.stop_after]
        if self.site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(self.site.content):x}\r\n".encode() + body)
            self.wfile.write(b"\r\n0\r\n\r\n" if self.site.stop_after is None else b"")
        else:
            self.send_header("Content-Length", str(len(self.site.content)))
            self.end_headers()
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(archive: Path) -> Iterator[Site]:
    site = Site(content=archive.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
    site.url = f"http://127.0.0.1:{server.server_port}/release.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def archive(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    shutil.copytree(release.tasks[0].path, folder / "in/dataset" / release.tasks[0].path.relative_to(release.root))
    for table in source.TABLES:
        shutil.copy(release.root / table, folder / "in/dataset")
    return Path(shutil.make_archive(str(folder / "release"), "gztar", folder / "in"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default cache, which a URL uses too."""
    monkeypatch.setenv("IFLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_behind(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_url_gives_the_release_and_is_asked_once(site: Site, archive: Path, cache: Path, chunked: bool) -> None:
    site.chunked = chunked
    release = open_release(site.url)
    assert release.root.is_relative_to(cache)
    assert release.digest() == open_release(archive, cache / "other").digest()
    assert open_release(site.url).root == release.root
    assert site.asked == ["/release.tar.gz"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_stopped_download_is_said_and_not_kept(site: Site, cache: Path, chunked: bool) -> None:
    site.chunked, site.stop_after = chunked, len(site.content) // 2
    with pytest.raises(
        IfllmError, match=rf"{site.url}: (the download stopped early|cannot be downloaded \(Incomplete)"
    ):
        open_release(site.url)
    assert left_behind(cache) == []
    site.stop_after = None
    assert open_release(site.url).tasks


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_error_page_is_not_taken_for_the_archive(site: Site, cache: Path, status: int) -> None:
    site.status = status
    with pytest.raises(IfllmError, match=rf"{site.url}: cannot be downloaded \(HTTP Error {status}: .*pass its path"):
        open_release(site.url)
    assert left_behind(cache) == []


def test_a_broken_archive_is_fetched_anew_the_next_time(site: Site, cache: Path) -> None:
    whole = site.content
    for broken in (b"<html>Sign in</html>", whole[: len(whole) // 2]):
        site.content = broken
        with pytest.raises(IfllmError, match="cannot be unpacked"):
            open_release(site.url)
        assert left_behind(cache) == []
    site.content = whole
    assert open_release(site.url).tasks


def test_without_a_network_the_message_says_what_to_do(cache: Path) -> None:
    url = "http://127.0.0.1:1/release.tar.gz"
    with pytest.raises(IfllmError, match=r"cannot be downloaded \(.*refused.*pass its path, or the unpacked folder"):
        open_release(url)
    assert left_behind(cache) == []


def test_the_authors_address_must_give_the_authors_data(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RELEASE_URL", site.url)
    with pytest.raises(IfllmError, match=rf"differs from commit {source.COMMIT}"):
        open_release(site.url)
    monkeypatch.setattr(source, "RELEASE_DIGEST", open_release(next(cache.glob("releases/*"))).digest())
    assert open_release(site.url).tasks


def test_a_cache_that_cannot_be_written_is_named(site: Site, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(IfllmError, match=r"cache/downloads: cannot write the download .*Set IFLLM_CACHE"):
        open_release(site.url)
    assert cache.read_text() == "a file"
