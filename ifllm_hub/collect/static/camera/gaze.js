/**
 * From a face to a point on the page: features of eyes and head, and a ridge regression fitted to clicks on dots.
 *
 * Nothing here knows of the mouse: a click says which dot a person looked at, and the dot's center is the target.
 */

// Landmarks of MediaPipe's face mesh. An eye's corners are from left to right in the camera's picture.
const EYES = [
  { corners: [33, 133], lids: [159, 145], iris: 468 },
  { corners: [362, 263], lids: [386, 374], iris: 473 },
];
const NOSE = 1;
// The box in which both eyes should be: this part of the picture's shorter side, in the middle, as in WebGazer.
export const BOX = 0.66;
// Strengths of the penalty to choose from, per sample.
const STRENGTHS = [0.001, 0.01, 0.1, 1, 10];
// A feature that varies less than this does not vary.
const CONSTANT = 1e-9;
// What a batch may say of an error at most, CSS px.
const FARTHEST = 32_767;
// The study's accuracy is about the last 50 estimates.
const LAST = 50;

/**
 * A face as 12 numbers without a unit: for each eye where its iris is between the corners, along and across, and how
 * open it is; then of the head the place and size in the picture, roll, yaw and pitch.
 *
 * `points` are x and y of the 478 landmarks, each as a share of the picture's width and height.
 */
export function featuresOf(points, width, height) {
  const at = (place) => [points[2 * place] * width, points[2 * place + 1] * height];
  const eyes = EYES.map(({ corners, lids, iris }) => {
    const [from, to] = corners.map(at);
    const [along, across] = inFrame(at(iris), from, to);
    const [[, top], [, bottom]] = lids.map((lid) => inFrame(at(lid), from, to));
    return { center: middle(from, to), seen: [along, across, bottom - top] };
  });
  const [left, right] = eyes.map(({ center }) => center);
  const [x, y] = middle(left, right);
  const span = [right[0] - left[0], right[1] - left[1]];
  const size = Math.hypot(...span) / width;
  return [...eyes.flatMap(({ seen }) => seen), x / width, y / height, size, Math.atan2(span[1], span[0]), ...inFrame(at(NOSE), left, right)];
}

const middle = ([a, b], [c, d]) => [(a + c) / 2, (b + d) / 2];

/** Where a point is from the middle of a line, along it and across it, in lengths of the line. */
function inFrame([x, y], from, to) {
  const [a, b] = [to[0] - from[0], to[1] - from[1]];
  const [c, d] = middle(from, to);
  const squared = a * a + b * b;
  return [((x - c) * a + (y - d) * b) / squared, ((y - d) * a - (x - c) * b) / squared];
}

/** Whether the corners of both eyes are in the box. */
export function isInBox(points, width, height) {
  const half = (BOX * Math.min(width, height)) / 2;
  return EYES.flatMap(({ corners }) => corners).every(
    (place) => Math.abs(points[2 * place] - 0.5) * width <= half && Math.abs(points[2 * place + 1] - 0.5) * height <= half,
  );
}

/**
 * The ridge regression of targets (x and y) on standardized features, with an unpenalized mean: weights that minimize
 * the squared error plus `penalty` times their squared size.
 */
export function fitRidge(rows, targets, penalty) {
  const columns = rows[0].map((_, f) => rows.map((row) => row[f]));
  const means = columns.map(mean);
  const spreads = columns.map((column, f) => Math.sqrt(mean(column.map((value) => (value - means[f]) ** 2))));
  const scales = spreads.map((spread) => (spread > CONSTANT ? spread : 1));
  const standard = rows.map((row) => row.map((value, f) => (value - means[f]) / scales[f]));
  const gram = columns.map((_, f) =>
    columns.map((_, g) => standard.reduce((sum, row) => sum + row[f] * row[g], f === g ? penalty : 0)),
  );
  const offset = [0, 1].map((axis) => mean(targets.map((target) => target[axis])));
  const weights = offset.map((center, axis) =>
    solve(gram, columns.map((_, f) => standard.reduce((sum, row, i) => sum + row[f] * (targets[i][axis] - center), 0))),
  );
  return { means, scales, weights, offset };
}

/** The point on the page for a face's features, CSS px. */
export function estimate({ means, scales, weights, offset }, features) {
  const standard = features.map((value, f) => (value - means[f]) / scales[f]);
  return offset.map((center, axis) => standard.reduce((sum, value, f) => sum + value * weights[axis][f], center));
}

/**
 * The regression with the penalty that is best for dots it was not fitted to, each left out in turn.
 *
 * A sample is {features, target}; the samples of a dot have the same target.
 */
export function calibrate(samples) {
  const fitTo = (some, strength) =>
    fitRidge(some.map(({ features }) => features), some.map(({ target }) => target), strength * some.length);
  const dots = [...new Set(samples.map(({ target }) => String(target)))];
  const errorOf = (strength) =>
    mean(
      dots.flatMap((dot) => {
        const isOfDot = ({ target }) => String(target) === dot;
        const model = fitTo(samples.filter((sample) => !isOfDot(sample)), strength);
        return samples.filter(isOfDot).map(({ features, target }) => distance(estimate(model, features), target) ** 2);
      }),
    );
  const errors = STRENGTHS.map(errorOf);
  return fitTo(samples, STRENGTHS[errors.indexOf(Math.min(...errors))]);
}

/**
 * How good estimates are while somebody looks at a target, from the last 50; null if there are none.
 *
 * `accuracy` is the study's, in percent: 100 for an estimate on the target, 0 at half the window's height from it or
 * further, rounded mean. `error` is the median distance, CSS px.
 */
export function qualityOf(estimates, target, windowHeight) {
  const errors = estimates.slice(-LAST).map((point) => distance(point, target));
  if (!errors.length) return null;
  const accuracy = mean(errors.map((error) => Math.max(0, 100 - (100 * error) / (windowHeight / 2))));
  return { accuracy: Math.round(accuracy), error: Math.min(Math.round(median(errors)), FARTHEST) };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);

/** The solution of a system of equations with a positive definite matrix, by elimination. */
function solve(matrix, values) {
  const rows = matrix.map((row, i) => [...row, values[i]]);
  const size = rows.length;
  for (let pivot = 0; pivot < size; pivot++) {
    for (let below = pivot + 1; below < size; below++) {
      const factor = rows[below][pivot] / rows[pivot][pivot];
      for (let column = pivot; column <= size; column++) rows[below][column] -= factor * rows[pivot][column];
    }
  }
  const solution = [];
  for (let row = size - 1; row >= 0; row--) {
    const known = rows[row].slice(row + 1, size).reduce((sum, value, i) => sum + value * solution[row + 1 + i], 0);
    solution[row] = (rows[row][size] - known) / rows[row][row];
  }
  return solution;
}
