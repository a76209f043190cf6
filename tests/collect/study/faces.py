"""A video of a face for Chromium's fake camera: the head goes from place to place, and four squares say where it is."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

# Head positions, of the way from the picture's middle to its extremes: those for the study's nine dots in its order,
# then two for reading, halfway to the left and to the right dot of the middle row.
PLACES = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y] + [(0, 0), (-0.5, 0), (0.5, 0)]
MIDDLE, LEFT, RIGHT = 8, 9, 10
# Frames a second in which Chromium plays a file of JPEGs.
RATE = 30
_SECONDS = [3] * 8 + [12, 5, 5]
_WIDTH, _HEIGHT = 640, 480
_SCALE = 1.3
# Of the face's middle in the portrait, how far the head goes, and how much it shakes (standard deviation), px.
_FACE, _REACH, _SHAKE = (226, 118), (85, 60), 1.5
_MARK = 40


@cache
def _portrait() -> Image.Image:
    """Of Eileen Collins by NASA (public domain)."""
    portrait = Image.fromarray(skimage.data.astronaut())
    return portrait.resize((round(portrait.width * _SCALE), round(portrait.height * _SCALE)))


def frame(place: int, dx: float = 0, dy: float = 0) -> Image.Image:
    """The camera's picture with the head at a place, or so many px beside it."""
    x, y = PLACES[place]
    made = Image.new("RGB", (_WIDTH, _HEIGHT), (120, 120, 120))
    # The camera sees people from the front: who goes to the left goes to the right in its picture.
    left = _WIDTH / 2 - x * _REACH[0] - _FACE[0] * _SCALE + dx
    top = _HEIGHT / 2 + y * _REACH[1] - _FACE[1] * _SCALE + dy
    made.paste(_portrait(), (round(left), round(top)))
    for bit in range(4):
        made.paste((255 * (place >> bit & 1),) * 3, (bit * _MARK, 0, (bit + 1) * _MARK, _MARK))
    return made


def write_video(path: Path) -> None:
    """All places one after the other, which Chromium plays over and over."""
    shaking = np.random.default_rng(1)
    with path.open("wb") as file:
        for place, seconds in enumerate(_SECONDS):
            for _ in range(seconds * RATE):
                frame(place, *shaking.normal(0, _SHAKE, 2)).save(file, "JPEG", quality=85)


# In the page: which place the video in it shows, by the squares, each a bit.
PLACE = f"""() => {{
  const context = new OffscreenCanvas(4, 1).getContext("2d");
  context.drawImage(document.querySelector("video"), 0, 0, {4 * _MARK}, {_MARK}, 0, 0, 4, 1);
  const {{ data }} = context.getImageData(0, 0, 4, 1);
  return [0, 1, 2, 3].reduce((place, bit) => place + (data[4 * bit] > 127) * 2 ** bit, 0);
}}"""

# In the page: a camera that shows one picture (a data URL; "" for a gray room), over and over.
STILL = """async (url) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const context = canvas.getContext("2d");
  context.fillStyle = "gray";
  const picture = url && (await createImageBitmap(await (await fetch(url)).blob()));
  setInterval(() => {
    context.fillRect(0, 0, 640, 480);
    if (picture) context.drawImage(picture, 0, 0);
  }, 50);
  navigator.mediaDevices.getUserMedia = async () => {
    const stream = canvas.captureStream();
    window.tracks.push(...stream.getTracks());
    return stream;
  };
}"""

if __name__ == "__main__":
    write_video(Path(sys.argv[1]))
