"""docs/sources.md: its example, run as its reader would."""

import subprocess
import sys
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from tests.docs.snippets import blocks

PAGE = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")


def test_the_example_makes_a_dataset(tmp_path: Path) -> None:
    (code,) = [code for code, _ in blocks(PAGE.replace("```python own_source", "```python"))]
    assert len(code.splitlines()) <= 60
    asked = [
        {
            "question_id": 10 * reader + number,
            "worker_id": f"reader{reader}",
            "task_id": reader,
            "turn": number,
            "query": "Why?",
            "response_left": "Because it is so. " * 4,
            "response_right": "Nobody knows that." * number,
            "preference": "left" if number % 2 else "right",
        }
        for reader in range(1, 7)
        for number in range(1, 4)
    ]
    samples = [
        {"question_id": row["question_id"], "t": 16 * at, "side": side, "char": None if side is None else at % 18}
        for row in asked
        for at, side in enumerate([*["left"] * 30, None, *["right"] * 12, None])
    ]
    pl.DataFrame(asked).write_csv(tmp_path / "questions.csv")
    pl.DataFrame(samples).write_csv(tmp_path / "samples.csv")
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("{'pairwise': 18, 'pointwise': 0} {'samples: elsewhere': 36, 'samples: on an answer': 756}\n")
    features = load_config(tmp_path / "our-lab", "features")
    assert features["gaze_dwell_left"].to_list() == [30 * 16.0] * 18
    assert features["gaze_dwell_right"].to_list() == [12 * 16.0] * 18
    assert load_config(tmp_path / "our-lab", "preferences_explicit").height == 18
    card = (tmp_path / "our-lab/README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "The first reader's calibration was lost." in card
    assert "IFLLM" not in card
