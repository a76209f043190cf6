/**
 * Finds the face in pictures, off the page's main thread: takes a VideoFrame, answers with the landmarks of a face.
 *
 * A classic worker, since MediaPipe's face mesh is one script of the old kind; its other files are beside it. Nothing
 * is kept of a picture, and nothing is sent anywhere.
 */

importScripts("face_mesh.js");

let points = null;
const mesh = new FaceMesh({ locateFile: (name) => name });
// On the processor: on the graphics card only WebGL 2 would do, which the face mesh does not ask for in a worker.
mesh.setOptions({ maxNumFaces: 1, refineLandmarks: true, useCpuInference: true });
mesh.onResults(({ multiFaceLandmarks: faces }) => {
  points = faces?.length ? Float32Array.from(faces[0].flatMap(({ x, y }) => [x, y])) : null;
});

const ready = mesh.initialize().then(() => {
  // In a worker, this version makes a WebGL context and forgets to keep it where it looks for it.
  mesh.g.D = mesh.g.l.getContext("webgl");
});

onmessage = async ({ data: frame }) => {
  try {
    const picture = await createImageBitmap(frame);
    await ready;
    await mesh.send({ image: picture });
    picture.close();
    postMessage({ points });
  } catch (error) {
    postMessage({ failed: String(error) });
  }
  frame.close();
};
