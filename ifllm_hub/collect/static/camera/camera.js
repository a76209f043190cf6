/** The camera: a face about 12 times a second, from pictures that never leave this page. */

import { featuresOf, isInBox } from "./gaze.js";

// As often as the tracker samples.
const PICTURE_MS = 80;
// A face that was seen this long ago is not there any more.
const STALE_MS = 500;
// Loading 6 MB and the first picture may take long; a worker that says nothing for this long is stuck.
const STUCK_MS = 60_000;

/** What keeps a camera from being used; the message is for the participant. */
export class CameraTrouble extends Error {}

const TROUBLES = {
  NotAllowedError: "This page may not use the camera: it was not allowed in this browser.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera cannot be read. Another program may be using it.",
  OverconstrainedError: "There is no camera with a picture that is large enough.",
};

/**
 * Open the camera and show its picture in `video`.
 *
 * `watch(listener)` calls with each face, `{features, isInBox}`, or null for a picture without one, and returns a
 * function that ends that. `ready` resolves at the first picture that was analyzed. `latest()` is the last face, null if there is none now. `failure` rejects with a
 * `CameraTrouble` if the camera is unplugged or the pictures cannot be analyzed. `stop()` releases the camera.
 */
export async function openCamera(video) {
  if (!navigator.mediaDevices) throw new CameraTrouble("This browser gives the camera only to pages with HTTPS.");
  if (!globalThis.VideoFrame) throw new CameraTrouble("This browser is too old for the camera to be used.");
  const wanted = { video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" } };
  const stream = await navigator.mediaDevices.getUserMedia(wanted).catch(({ name, message }) => {
    throw new CameraTrouble(TROUBLES[name] ?? `The camera cannot be opened (${message}).`);
  });
  const [track] = stream.getVideoTracks();
  const worker = new Worker(new URL("worker.js", import.meta.url));
  const listeners = new Set();
  let last; // the last face and when it was seen; null for a picture without one, undefined before the first
  let askedAt = null; // when the worker got the picture that it has, null if it has none
  let fail, isReady;
  const ready = new Promise((resolve) => (isReady = resolve));
  const failure = new Promise((_, reject) => (fail = (told) => reject(new CameraTrouble(told))));
  failure.catch(() => {}); // whoever waits for it is told

  track.onended = () => fail("The camera is off: it was unplugged, or taken away from this page.");
  worker.onerror = () => fail("This browser cannot analyze the camera's picture.");
  worker.onmessage = ({ data: { points, failed } }) => {
    askedAt = null;
    if (failed) return worker.onerror();
    const [width, height] = [video.videoWidth, video.videoHeight];
    const face = points && { features: featuresOf(points, width, height), isInBox: isInBox(points, width, height) };
    last = face && { face, at: performance.now() };
    isReady();
    for (const listener of listeners) listener(face);
  };

  const patience = setTimeout(() => last === undefined && fail("The camera gives no picture."), STUCK_MS);

  function takePicture() {
    if (askedAt !== null && performance.now() - askedAt > STUCK_MS) worker.onerror();
    if (askedAt !== null || document.hidden || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    // Not a bitmap: reading the pixels takes the page several times as long.
    const frame = new VideoFrame(video);
    askedAt = performance.now();
    worker.postMessage(frame, [frame]);
  }

  video.srcObject = stream;
  const timer = setInterval(takePicture, PICTURE_MS);
  video.play().catch(() => {}); // stopped meanwhile

  return {
    ready,
    failure,
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    latest: () => (last && performance.now() - last.at < STALE_MS ? last.face : null),
    stop() {
      clearInterval(timer);
      clearTimeout(patience);
      listeners.clear();
      track.onended = null;
      track.stop();
      video.srcObject = null;
      worker.terminate();
    },
  };
}
