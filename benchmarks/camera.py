"""What the camera of a study costs the page: faces a second, main-thread time, bytes.

python -m tests.collect.study.faces face.mjpeg          # a face that moves, for Chromium's fake camera
npm pack @mediapipe/face_mesh@0.4.1633559619
python -m benchmarks.camera mediapipe-face_mesh-0.4.1633559619.tgz face.mjpeg
"""

import argparse
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table
from starlette.responses import HTMLResponse

from ifllm_hub.collect.study.camera import camera_router

PAGE = """<!doctype html><video muted playsinline></video><script type="module">
import { openCamera } from "/ifllm/camera/camera.js";
window.waits = [];
let sentAt;
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (...what) {
  sentAt = performance.now();
  post.apply(this, what);
};
window.begin = async () => {
  const camera = await openCamera(document.querySelector("video"));
  window.faces = 0;
  camera.watch((face) => {
    window.faces += Boolean(face);
    window.waits.push(performance.now() - sentAt);
  });
  await camera.ready;
};
</script>"""


def serve(package: Path) -> tuple[str, uvicorn.Server]:
    app = FastAPI()
    app.include_router(camera_router("/ifllm", package))
    app.get("/")(lambda: HTMLResponse(PAGE))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server


def busy(session: Any, page: Any, seconds: float) -> float:
    """Main-thread time in so many seconds, ms."""

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")

    before = spent()
    page.wait_for_timeout(1000 * seconds)
    return spent() - before


def measure(package: Path, video: Path, chromium: str, seconds: float) -> dict[str, str]:
    url, server = serve(package)
    sizes: dict[str, int] = {}
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    args = ["--headless", "--no-sandbox", *fake, f"--use-file-for-fake-video-capture={video.resolve()}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.on("response", lambda got: sizes.update({got.url: int(got.headers.get("content-length", 0))}))
        page.goto(url)
        idle = busy(session, page, seconds)
        began = time.perf_counter()
        page.evaluate("window.begin()")
        first = time.perf_counter() - began
        page.evaluate("window.waits.length = window.faces = 0")
        began = time.perf_counter()
        worked = busy(session, page, seconds) - idle
        spent = time.perf_counter() - began
        waits, faces = page.evaluate("[window.waits, window.faces]")
        browser.close()
    server.should_exit = True
    late = sorted(waits)[len(waits) * 95 // 100]
    return {
        "pictures a second": f"{len(waits) / spent:.1f}",
        "of them with a face": f"{faces / len(waits):.0%}",
        "from picture to face, median and p95": f"{median(waits):.0f} ms, {late:.0f} ms",
        "main-thread time a picture": f"{worked / len(waits):.1f} ms",
        "until the first face": f"{first:.1f} s",
        "loaded, compressed": f"{sum(size for at, size in sizes.items() if '/camera/' in at) / 1e6:.2f} MB",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    table = Table("camera", "measured")
    for name, value in measure(asked.package, asked.video, asked.chromium, asked.seconds).items():
        table.add_row(name, value)
    Console().print(table)
