// What a face's features mean, and the regression: by properties, on made faces. tests/collect/static/test_gaze.py
// compares the regression with NumPy.

import assert from "node:assert/strict";
import test from "node:test";
import { calibrate, estimate, featuresOf, isInBox, qualityOf } from "../../../ifllm_hub/collect/static/camera/gaze.js";

const [WIDTH, HEIGHT] = [640, 480];
// Landmarks of a face that looks straight ahead, in lengths of an eye, the middle between the eyes being 0.
const FACE = {
  33: [-1.5, 0], 133: [-0.5, 0], 159: [-1, -0.15], 145: [-1, 0.15], 468: [-1, 0],
  362: [0.5, 0], 263: [1.5, 0], 386: [1, -0.15], 374: [1, 0.15], 473: [1, 0], 1: [0, 1],
};

/** The points of a face: irises moved by (dx, dy) eye lengths, then all of it turned, scaled and placed (px). */
function made({ dx = 0, dy = 0, roll = 0, scale = 40, x = WIDTH / 2, y = HEIGHT / 2 } = {}) {
  const points = new Float32Array(2 * 478);
  for (const [place, [a, b]] of Object.entries(FACE)) {
    const [u, v] = place >= 468 ? [a + dx, b + dy] : [a, b];
    points[2 * place] = (x + scale * (u * Math.cos(roll) - v * Math.sin(roll))) / WIDTH;
    points[2 * place + 1] = (y + scale * (u * Math.sin(roll) + v * Math.cos(roll))) / HEIGHT;
  }
  return points;
}

const features = (how) => featuresOf(made(how), WIDTH, HEIGHT);
const near = (found, wanted) => found.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) < 1e-4, `${i}: ${value} ${wanted[i]}`));

test("each feature is what it is called", () => {
  near(features(), [0, 0, 0.3, 0, 0, 0.3, 0.5, 0.5, 80 / WIDTH, 0, 0, 0.5]);
  near(features({ dx: 0.1, dy: -0.05 }).slice(0, 6), [0.1, -0.05, 0.3, 0.1, -0.05, 0.3]);
});

test("where the eyes look is told apart from where the head is", () => {
  const moved = features({ dx: 0.1, dy: 0.05, roll: 0.3, scale: 55, x: 250, y: 300 });
  near(moved.slice(0, 6), [0.1, 0.05, 0.3, 0.1, 0.05, 0.3]);
  near(moved.slice(6), [250 / WIDTH, 300 / HEIGHT, 110 / WIDTH, 0.3, 0, 0.5]);
});

test("a face is in the box until one corner of an eye is not", () => {
  const half = 0.33 * HEIGHT;
  const inBox = (how) => isInBox(made(how), WIDTH, HEIGHT);
  assert.ok(inBox());
  assert.ok(inBox({ x: WIDTH / 2 + half - 61, y: HEIGHT / 2 + half - 1 }));
  assert.ok(!inBox({ x: WIDTH / 2 + half - 59 })); // the outer corner is 60 px from the middle
  assert.ok(!inBox({ y: HEIGHT / 2 - half - 1 }));
});

const DOTS = [0.08, 0.5, 0.92].flatMap((y) => [0.08, 0.5, 0.92].map((x) => [1280 * x, 800 * y]));
// Somebody whose irises turn with where they look, and whose measured features shake.
const looking = ([x, y], noise) => features({ dx: (x - 640) / 4000, dy: (y - 400) / 4000, x: 320 + noise(), y: 240 + noise(), roll: noise() / 100 });
const shaking = (seed) => () => ((seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5) * 4;

test("who was calibrated by moving the eyes is followed between the dots", () => {
  const noise = shaking(7);
  const samples = DOTS.flatMap((target) => Array.from({ length: 5 }, () => ({ features: looking(target, noise), target })));
  const model = calibrate(samples);
  for (const target of [[300, 200], [640, 400], [900, 650]]) {
    const [x, y] = estimate(model, looking(target, noise));
    assert.ok(Math.hypot(x - target[0], y - target[1]) < 25, `${x} ${y}`);
  }
});

test("a face that tells nothing is taken to look at the middle of the dots", () => {
  const samples = DOTS.flatMap((target) => Array.from({ length: 5 }, () => ({ features: features(), target })));
  near(estimate(calibrate(samples), features()), [640, 400]);
  const noise = shaking(3); // nor does one that only shakes
  const shaken = DOTS.flatMap((target) => Array.from({ length: 5 }, () => ({ features: looking([640, 400], noise), target })));
  const [x, y] = estimate(calibrate(shaken), looking([640, 400], noise));
  assert.ok(Math.hypot(x - 640, y - 400) < 150);
});

test("the accuracy is the study's: from the last 50, 0 at half a window's height", () => {
  const target = [640, 400];
  assert.equal(qualityOf([], target, 800), null);
  assert.deepEqual(qualityOf([[640, 400]], target, 800), { accuracy: 100, error: 0 });
  assert.deepEqual(qualityOf([[640, 300], [940, 400], [640, 1400]], target, 800), { accuracy: 33, error: 300 }); // 75, 25, 0
  assert.deepEqual(qualityOf([[1e9, 400]], target, 800), { accuracy: 0, error: 32767 }); // the most that is accepted
  const early = Array.from({ length: 40 }, () => [0, 0]);
  const late = Array.from({ length: 50 }, () => [640, 480]);
  assert.deepEqual(qualityOf([...early, ...late], target, 800), { accuracy: 80, error: 80 });
});
