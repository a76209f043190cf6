"""The ridge regression of the camera's gaze against NumPy: least squares on rows that the penalty adds."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from tests.collect.wire import STATIC

RUN = """
const { calibrate, estimate, fitRidge } = await import(process.argv[1]);
const { rows, targets, others, penalty } = JSON.parse(await new Response(process.stdin).text());
const chosen = calibrate(rows.map((features, i) => ({ features, target: targets[i] })));
const fitted = fitRidge(rows, targets, penalty);
console.log(JSON.stringify([fitted, chosen].map((model) => others.map((row) => estimate(model, row)))));
"""


def ridge(rows: np.ndarray, targets: np.ndarray, others: np.ndarray, penalty: float) -> np.ndarray:
    means, scales = rows.mean(0), rows.std(0)
    standard, wanted = (rows - means) / scales, targets - targets.mean(0)
    width = rows.shape[1]
    added = np.vstack([standard, np.sqrt(penalty) * np.eye(width)])
    weights = np.linalg.lstsq(added, np.vstack([wanted, np.zeros((width, 2))]), rcond=None)[0]
    return (others - means) / scales @ weights + targets.mean(0)


@pytest.mark.parametrize("noise", [0.05, 1, 20])
def test_the_regression_is_numpys(noise: float) -> None:
    """With one given penalty, and with the one that is best for dots left out."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node 20 or later (Debian: apt install nodejs)")
    rng = np.random.default_rng(4)
    dots = np.array([(x, y) for y in (64, 400, 736) for x in (102.4, 640, 1177.6)])
    targets = np.repeat(dots, 5, axis=0)
    mixing = rng.normal(0, 1e-3, (2, 12))
    scales = 10.0 ** rng.integers(-3, 2, 12)
    rows, others = (
        (points @ mixing + rng.normal(0, noise, (len(points), 12))) * scales + 7
        for points in (targets, rng.uniform(0, 800, (20, 2)))
    )
    errors = []
    strengths = (0.001, 0.01, 0.1, 1, 10)
    for strength in strengths:
        left_out = [(targets == dot).all(1) for dot in dots]
        found = [ridge(rows[~out], targets[~out], rows[out], strength * 40) - targets[out] for out in left_out]
        errors.append(np.mean(np.sum(np.concatenate(found) ** 2, axis=1)))
    best = strengths[int(np.argmin(errors))]
    asked = {"rows": rows.tolist(), "targets": targets.tolist(), "others": others.tolist(), "penalty": 3.5}
    command = [node, "--input-type=module", "-e", RUN, (STATIC / "camera" / "gaze.js").as_uri()]
    ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=60)
    fitted, chosen = json.loads(ran.stdout)
    np.testing.assert_allclose(fitted, ridge(rows, targets, others, 3.5), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(chosen, ridge(rows, targets, others, best * 45), rtol=1e-6, atol=1e-4)
