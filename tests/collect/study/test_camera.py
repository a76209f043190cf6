"""The study with a camera, in a real Chromium whose camera is a video of a face: from consent to exported gaze.

What this cannot show is how well people's eyes are followed. The head in the video moves, its eyes do not; so what is
shown is that everything between the camera and the dataset does what it says.
"""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets, Settings
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import CONSENTS
from ifllm_hub.collect.study.camera import read_face_mesh
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.space import write_space
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from tests.browser import launched
from tests.collect.store.processes import free_port, start_server
from tests.collect.study import faces
from tests.docs.place import skip_without_registry
from tests.docs.snippets import fences
from tests.waiting import wait_for_server

ROOT = Path(__file__).parents[3]
PAGE = fences((ROOT / "docs/camera-study.md").read_text(encoding="utf-8"))
WIDTH, HEIGHT = 1280, 800
# Keeps what the page gets of the camera, and, once asked, where the head is when.
WATCH = f"""
const opens = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.tracks = [];
navigator.mediaDevices.getUserMedia = async (wanted) => {{
  const stream = await opens(wanted);
  window.tracks.push(...stream.getTracks());
  return stream;
}};
window.places = [];
window.watch = () => setInterval(() => window.places.push([performance.now(), ({faces.PLACE})()]), 40);
// Resolves when the head has just come to a place and has been there for so long. By the page's own clock, since a busy
// machine holds up whoever asks from outside.
window.placed = async (place, ms) => {{
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const is = {faces.PLACE};
  while (is() === place) await pause(20);
  while (is() !== place) await pause(20);
  await pause(ms);
}};
window.clickUntilGone = async (dot) => {{
  while (dot.isConnected) {{ // a click at which no face is seen does not count
    dot.click();
    await new Promise((resolve) => setTimeout(resolve, 80));
  }}
}};
"""
# How long the video has shown a place when what is seen of it counts, ms: a picture may take long on a busy machine.
SETTLED = 1_000


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The face mesh as a researcher gets it."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm (Debian: apt install npm)")
    folder = tmp_path_factory.mktemp("package")
    command = ["bash", "-c", PAGE["package"].code]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    skip_without_registry(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[tuple[str, Path]]:
    """The address of a study with a camera, and its folder."""
    folder, port = tmp_path_factory.mktemp("study"), free_port()
    more = ("short", str(package))
    process = start_server(folder, port, *more, module="tests.collect.study.studied", patience=300)
    yield f"http://127.0.0.1:{port}", folder
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium that plays the video to whoever asks for the camera, without a question."""
    video = tmp_path_factory.mktemp("video") / "face.mjpeg"
    faces.write_video(video)
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with launched(*fake, f"--use-file-for-fake-video-capture={video}") as browser:
        yield browser


Open = Callable[..., Any]


@pytest.fixture
def open_page(site: tuple[str, Path]) -> Iterator[Open]:
    """A function that opens the study; `page.asked` has its requests."""
    contexts = []

    def open_page(browser: Any) -> Any:
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(WATCH)
        page.set_default_timeout(120_000)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request))
        page.goto(site[0])
        page.locator("#agree").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


def agree(page: Any, camera: bool = True) -> None:
    page.get_by_role("checkbox").first.check()
    if camera:
        page.locator("#camera input").check()
    page.locator("#agree").click()


def press(page: Any, name: str) -> None:
    page.locator("dialog footer").get_by_role("button", name=name, exact=True).click()


def find_face(page: Any) -> None:
    page.wait_for_function("document.querySelector('dialog .ifllm-inside')")
    press(page, "Continue")


def click_dots(page: Any, middle_after_ms: int = 0) -> None:
    """Click each dot five times, while the head is where it is for this dot."""
    for place in range(9):
        later = middle_after_ms if place == faces.MIDDLE else 0
        page.locator(".ifllm-dot").evaluate(
            f"async (dot) => {{ await placed({place}, {SETTLED + later}); await clickUntilGone(dot); }}"
        )


def begin(page: Any) -> None:
    page.locator("#start").click()
    page.locator("#query textarea").wait_for()


def ask(page: Any, query: str) -> None:
    page.locator("#query textarea").fill(query)
    page.locator("#ask").click()


def read(page: Any, query: str) -> None:
    """Wait for the answers, and for the head to have been at each side of them."""
    page.locator("#answers p.ifllm-query", has_text=query).wait_for()
    page.locator("[data-ifllm-complete]").nth(1).wait_for()
    for place in (faces.LEFT, faces.RIGHT):
        page.evaluate(f"placed({place}, 4_500)")


def rate(page: Any) -> None:
    for name in ("left", "right", "preference"):
        page.locator(f"#{name} label").first.click()


def tracks(page: Any) -> list[str]:
    return list(page.evaluate("window.tracks.map(({ readyState }) => readyState)"))


def batches(page: Any) -> list[dict[str, Any]]:
    return [json.loads(each.post_data) for each in page.asked if each.url.endswith("/v1/batches")]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def side_of(token: str) -> str:
    payload = token.split(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["side"])


def settled(page: Any) -> Callable[[float], int | None]:
    """Where the head was at a time of the page and for a while before, None if that changed."""
    seen = page.evaluate("window.places")

    def at(time: float) -> int | None:
        places = {place for when, place in seen if time - SETTLED <= when <= time}
        return places.pop() if len(places) == 1 else None

    return at


@pytest.mark.slow
def test_from_consent_to_gaze_in_the_dataset(
    browser: Any, open_page: Open, site: tuple[str, Path], tmp_path: Path
) -> None:
    page = open_page(browser)
    assert tracks(page) == []
    agree(page)
    find_face(page)
    click_dots(page)
    page.locator("dialog footer button").first.wait_for()
    assert page.locator("dialog h2").inner_text() == "This works", page.locator("dialog p").inner_text()
    said = page.locator("dialog p").inner_text()
    accuracy, error = (int(number) for number in re.findall(r"(\d+) (?:%|px)", said.replace("70 %", "")))
    assert accuracy > 90
    # The error in percent is on average what that in px is in the median.
    assert abs((100 - accuracy) / 100 * HEIGHT / 2 - error) < 15
    press(page, "Continue")
    page.evaluate("window.watch()")
    begin(page)
    assert tracks(page) == ["live"]
    ask(page, "Why do volcanoes erupt?")
    read(page, "Why do volcanoes erupt?")
    rate(page)
    # Between questions there is a check; now the head is not where it was for this dot.
    ask(page, "Where are most of them?")
    page.locator(".ifllm-dot").evaluate(f"async (dot) => {{ await placed({faces.LEFT}, {SETTLED}); dot.click(); }}")
    page.locator("dialog h2", has_text="You may have moved").wait_for()
    press(page, "Continue")
    read(page, "Where are most of them?")
    rate(page)
    page.locator("#done").click()
    page.locator("#summary textarea").fill("Something.")
    assert tracks(page) == ["live"]
    page.locator("#send").click()
    page.get_by_text("Thank you!").wait_for()
    page.wait_for_function("window.tracks.every(({ readyState }) => readyState === 'ended')")
    page.wait_for_timeout(1_000)

    points = [
        (side_of(batch["responses"][r]), time, x, y, char, kind)
        for batch in batches(page)
        for time, r, x, y, char, kind in batch["gaze"]
    ]
    place_at = settled(page)
    seen = Counter()
    for side, time, x, y, _, kind in points:
        assert kind == 3  # the eyes are in the box at every place
        place = place_at(time)
        if place in (faces.LEFT, faces.RIGHT):
            wanted = WIDTH / 2 + (1 if place == faces.RIGHT else -1) * 0.5 * 0.42 * WIDTH
            assert side == ("right" if place == faces.RIGHT else "left")
            assert abs(x - wanted) < 80
            assert abs(y - HEIGHT / 2) < 80
            seen[side] += 1
    assert min(seen["left"], seen["right"]) > 20
    _check_wire(page, site[0])
    rows = _exported(site[1], tmp_path / "runs" / "collected")
    exported = Counter(
        (side, x, char)
        for row in rows
        for side in ("left", "right")
        for x, char in zip(row["gaze_x"], row[f"gaze_char_{side}"], strict=True)
        if x is not None and char >= 0
    )
    assert exported == Counter((side, x, char) for side, _, x, _, char, _ in points if char >= 0)
    assert exported.total() > 40
    assert {face for row in rows for face in row["face_ok"]} <= {True, None}
    # Each question has what was found before it: of the calibration, and of the check with the head elsewhere.
    assert [row["gaze_accuracy"] for row in rows] == pytest.approx([accuracy, 33], abs=12)
    assert [row["gaze_error"] for row in rows] == pytest.approx([error, 269], abs=50)
    assert (rows[0]["gaze_accuracy"], rows[0]["gaze_error"]) == (accuracy, error)
    command = [sys.executable, "-c", PAGE["filter.py"].code]
    filtered = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert filtered.stdout.startswith("2 readings with gaze, 1 of them good\n")


def _check_wire(page: Any, url: str) -> None:
    """No picture leaves the page: what is sent is JSON for known addresses, without any long word."""
    for request in page.asked:
        assert request.url.startswith((url, "data:", "blob:"))
        body = request.post_data_buffer
        if body is None:
            assert request.method in ("GET", "HEAD")
            continue
        assert re.search(r"/ifllm/v1/batches$|/gradio_api/(queue/join|run/predict|cancel|reset)\b", request.url)
        assert len(body) < 65_536
        # A picture as text is a word of thousands of letters; the longest of ours are tokens.
        longest = max((len(word) for text in strings(json.loads(body)) for word in text.split()), default=0)
        assert longest < 600
    sent = [batch["gaze"] for batch in batches(page)]
    assert all(isinstance(number, int) for points in sent for point in points for number in point)


def _exported(folder: Path, out: Path) -> list[dict[str, Any]]:
    """The rows of the config `trajectories`, in the order of the questions."""
    store = Store(f"sqlite:///{folder / STORE_FILE}")
    export_dataset(store, out, Pseudonyms(Secrets.load(folder).pseudonym))
    with store.reading() as connection:
        assert "2026-11-29 with camera" in connection.scalars(select(CONSENTS.c.version)).all()
    store.close()
    turns = load_config(out, "pairwise").select("question_id", "turn")
    rows = load_config(out, "trajectories").join(turns, on="question_id").sort("turn").to_dicts()
    assert len(rows) == 2
    return rows


@pytest.mark.slow
def test_who_does_not_agree_to_the_camera_loads_nothing_of_it(browser: Any, open_page: Open) -> None:
    page = open_page(browser)
    agree(page, camera=False)
    begin(page)
    ask(page, "Why?")
    page.locator("[data-ifllm-complete]").nth(1).wait_for()
    assert any(request.url.endswith("/ifllm.js") for request in page.asked)
    assert not [request.url for request in page.asked if "/camera/" in request.url]
    assert tracks(page) == []


@pytest.mark.slow
def test_a_calibration_that_is_not_good_enough_does_not_count(browser: Any, open_page: Open) -> None:
    page = open_page(browser)
    agree(page)
    find_face(page)
    click_dots(page, middle_after_ms=8_500)  # so that the head moves away during the five seconds
    page.locator("dialog h2", has_text="not good enough").wait_for()
    assert page.locator("dialog footer button").all_inner_texts() == ["Calibrate again", "Continue without camera"]
    press(page, "Calibrate again")
    page.locator("dialog h2", has_text="Dot 1 of 9").wait_for()
    assert tracks(page) == ["live"]


def show(page: Any, picture: Image.Image | None) -> None:
    """A camera with a still picture; None: of a room in which nobody is."""
    content = BytesIO()
    if picture is not None:
        picture.save(content, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}" if picture else ""
    page.evaluate(f"({faces.STILL})({json.dumps(url)})")


def sit_still(page: Any) -> None:
    """Set up the camera with a head that does not move: the estimate is always the middle of the dots."""
    show(page, faces.frame(faces.MIDDLE))
    agree(page)
    find_face(page)
    while re.match("Dot|Please wait", page.locator("dialog h2").inner_text()):  # a click with no face does not count
        page.locator(".ifllm-dot").click()
    page.locator("dialog h2", has_text="This works").wait_for()
    press(page, "Continue")


def answered(page: Any) -> None:
    begin(page)
    ask(page, "Why?")
    page.locator("[data-ifllm-complete]").nth(1).wait_for()


@pytest.mark.slow
def test_without_the_camera_that_was_unplugged_the_study_goes_on(browser: Any, open_page: Open) -> None:
    page = open_page(browser)
    sit_still(page)
    begin(page)
    assert tracks(page) == ["live"]
    # A browser says it by this event alone.
    page.evaluate("window.tracks[0].dispatchEvent(new Event('ended'))")
    page.locator("dialog p", has_text="unplugged").wait_for()
    assert tracks(page) == ["ended"]
    press(page, "Continue without camera")
    ask(page, "Why?")
    page.locator("[data-ifllm-complete]").nth(1).wait_for()
    page.wait_for_function("window.ifllm.state === 'on'")


@pytest.mark.slow
def test_who_withdraws_releases_the_camera(browser: Any, open_page: Open) -> None:
    page = open_page(browser)
    sit_still(page)
    answered(page)
    assert tracks(page) == ["live"]
    page.get_by_text("Stop and delete", exact=True).click()
    page.locator("#withdraw").click()
    page.get_by_text("Everything that was recorded of you is deleted").wait_for()
    page.wait_for_function("window.tracks.every(({ readyState }) => readyState === 'ended')")


def refuse(page: Any, name: str) -> None:
    """The browser gives no camera, for the reason of this name."""
    throws = f"async () => {{ throw new DOMException('', '{name}'); }}"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {throws}; }}")


NAMES = {"NotAllowedError": "not allowed", "NotFoundError": "no camera", "NotReadableError": "Another program"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_without_a_camera_the_study_goes_on(browser: Any, open_page: Open, name: str) -> None:
    """As the browser says that it was refused, that there is none, and that it is in use."""
    page = open_page(browser)
    refuse(page, name)
    agree(page)
    page.locator("dialog p", has_text=NAMES[name]).wait_for()
    press(page, "Try again")
    page.locator("dialog p", has_text=NAMES[name]).wait_for()
    press(page, "Continue without camera")
    answered(page)
    page.evaluate("window.ifllm.flush()")
    assert batches(page)
    assert all("gaze" not in batch for batch in batches(page))


@pytest.mark.slow
def test_where_nobody_is_seen_nobody_can_begin(browser: Any, open_page: Open) -> None:
    page = open_page(browser)
    show(page, None)
    agree(page)
    go_on = page.locator("dialog footer").get_by_role("button", name="Continue", exact=True)
    go_on.wait_for()
    page.wait_for_timeout(3_000)
    assert go_on.is_disabled()
    press(page, "Continue without camera")
    assert tracks(page) == ["ended"]
    begin(page)


@pytest.mark.slow
def test_a_study_that_needs_a_camera(browser: Any, package: Path, tmp_path: Path) -> None:
    """Nobody begins without one, and who cannot use theirs stops and deletes."""
    port = free_port()
    process = start_server(
        tmp_path, port, "short", str(package), "required", module="tests.collect.study.studied", patience=300
    )
    page = browser.new_page()
    page.set_default_timeout(60_000)
    try:
        page.goto(f"http://127.0.0.1:{port}")
        refuse(page, "NotFoundError")
        agree(page, camera=False)
        page.get_by_text("This study needs a camera").wait_for()
        page.locator("#camera input").check()
        page.locator("#agree").click()
        page.locator("dialog p", has_text="no camera").wait_for()
        press(page, "Stop and delete")
        page.get_by_text("Everything that was recorded of you is deleted").wait_for()
        assert not page.locator("dialog").is_visible()
    finally:
        page.close()
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_command_of_the_documentation(package: Path, tmp_path: Path) -> None:
    """Whoever types it gets a study that asks for the camera, and serves what the page then loads."""
    shutil.copy(package, tmp_path)
    port, log = str(free_port()), tmp_path / "study.log"
    words = shlex.split(PAGE["study"].code.replace("\\\n", " ").replace("7860", port))
    command = [sys.executable, "-c", "from ifllm_hub.cli import main; main()", *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stream, stderr=stream)
    url = f"http://127.0.0.1:{port}"
    wait_for_server(process, f"{url}/ifllm/v1/health", log, 300)
    try:
        with urllib.request.urlopen(url) as page:
            assert "I also agree to use my camera" in page.read().decode()
        for name, content in read_face_mesh(package).items():
            with urllib.request.urlopen(f"{url}/ifllm/camera/{name}") as file:
                assert file.read() == content
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_package_is_checked_byte_for_byte(package: Path, tmp_path: Path) -> None:
    contents = read_face_mesh(package)
    assert contents["face_mesh_solution_simd_wasm_bin.wasm"].startswith(b"\0asm")
    assert all(contents.values())
    changed = bytearray(package.read_bytes())
    changed[-1] ^= 1
    other = tmp_path / "other.tgz"
    other.write_bytes(changed)
    with pytest.raises(IfllmError, match=r"not the package @mediapipe/face_mesh@0\.4\.1633559619.*npm pack"):
        read_face_mesh(other)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"No such file.*npm pack"):
        read_face_mesh(tmp_path / "missing.tgz")
    collector = Settings(tmp_path / "collected")
    with pytest.raises(IfllmError, match="requires a camera"):
        StudySettings(collector, contact="Ada", camera_required=True)
    with pytest.raises(IfllmError, match="Space has no camera"):
        write_space(StudySettings(collector, contact="Ada", camera=tmp_path / "any.tgz"), tmp_path / "space")
