"""Reward models of three kinds under the one protocol, on pairs whose scores are known."""

import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from ifllm_hub.align.stages.text_reward import TextReward, load_encoder
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.reward_models.board import (
    evaluate_reward_models,
    fit_judge,
    judge_differences,
    reward_models_page,
)
from ifllm_hub.evaluation.reward_models.text_scorer import load_scorer
from ifllm_hub.evaluation.tables import JUDGMENTS, write_table
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.reward.protocol.scores import correct, score
from tests.align.made import said, write_config

PACKAGE = Path(__file__).parents[3] / "ifllm_hub"
EMBEDDED = PACKAGE / "reward" / "default"
PAIRS, WORKERS = 90, 9
# Half of these pairs are of the test split.
TEST_WORKERS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 90 rated pairs of 9 workers, 40 of them of the test split's."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    rows: dict[str, list[dict[str, Any]]] = {"pairwise": [], "features": []}
    for question in range(PAIRS):
        worker = f"w{question % WORKERS}"
        contrast = generator.normal(size=len(FEATURES))
        left = contrast.sum() + generator.normal() > 0
        ids = {"question_id": question, "worker_id": worker}
        rows["pairwise"].append(
            ids
            | {
                "conversation_id": f"{worker}/{question // 18}",
                "messages_left": said("user", "Earlier?", "Once.", f"Question {question}?"),
                "messages_right": said("user", "Earlier?", "Twice.", f"Question {question}?"),
                "query": f"Question {question}?",
                "response_left": f"left answer {question} " + "word " * (question % 7),
                "response_right": f"right answer {question} " + "word " * (question % 5),
                "preference": "left" if left else "right",
                "has_mouse": True,
                "has_gaze": True,
                "ai_error": False,
                "excluded_worker": False,
            }
        )
        rows["features"].append(ids | {"mode": "pairwise"} | dict(zip(FEATURES, contrast.tolist(), strict=True)))
    for config, all_rows in rows.items():
        test = [row for row in all_rows if int(row["worker_id"][1:]) in TEST_WORKERS]
        write_config(folder, config, [row for row in all_rows if row not in test], test)
    write_manifest(folder, "0" * 64)
    return folder


def write_manifest(folder: Path, digest: str) -> None:
    (folder / "manifest.json").write_text(json.dumps({"release_sha256": digest, "is_the_released_data": False}))


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Pairs:
    return labeled(load_pairs(folder))


def judged(pairs: Pairs, differences: dict[str, np.ndarray], **changes: Any) -> pl.DataFrame:
    """Judgments that score left above right by so many points, by order."""
    rows = []
    for order, points in differences.items():
        for row, difference in zip(pairs.rows.iter_rows(named=True), points, strict=True):
            rows.append(
                dict.fromkeys(JUDGMENTS)
                | {"judgment_id": f"{row['question_id']}{order}", "mode": "pairwise", "preset": "corrected"}
                | {"judge": "j", "judge_settings": '{"temperature": 0}', "llm": "ifllm", "label_source": "human"}
                | {name: row[name] for name in ("question_id", "worker_id")}
                | {"answer_model": row["response_left"], "answer_baseline": row["response_right"], "order": order}
                | {"status": "ok", "score_model": 5.0 + difference, "score_baseline": 5.0}
                | changes
            )
    return pl.DataFrame(rows, schema_overrides=JUDGMENTS).select(*JUDGMENTS)


def both(points: np.ndarray) -> dict[str, np.ndarray]:
    return {"model_first": points, "baseline_first": points}


def by_model(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for part in board["parts"] for row in part["rows"]}


def test_behavior_model_on_test_workers(folder: Path, pairs: Pairs) -> None:
    board = evaluate_reward_models(folder, behavior=["default"], seeds=3)
    (part,) = board["parts"]
    assert (part["pairs"], part["workers"], part["on"]) == (40, 4, "the workers of the test split")
    test = pairs.filter(pl.col("split") == "test")
    assert set(test.rows["worker_id"]) == {f"w{worker}" for worker in TEST_WORKERS}
    model = ImplicitFeedbackReward.from_pretrained(EMBEDDED)
    probability = model.score(test.rows)
    row = by_model(board)["behavior: default"]
    assert row["accuracy"]["mean"] == np.mean((probability > 0.5) == test.y)
    assert row["brier"] == pytest.approx(np.mean((probability - test.y) ** 2))
    longer = np.mean(np.where(test.X(("length_log_ratio",))[:, 0] > 0, test.y, 1 - test.y))
    assert part["longer_rule"] == pytest.approx(longer)
    assert row["gain_over_longer_answer"]["mean"] == pytest.approx(row["accuracy"]["mean"] - longer)
    assert row["trained_on"] == "another release"


def test_on_every_worker_the_longer_answer_is_that_of_the_leaderboard(folder: Path, pairs: Pairs) -> None:
    board = evaluate_reward_models(folder, behavior=[str(EMBEDDED)], every_worker=True, seeds=2)
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", 2)
    row = by_model(board)["longer answer"]
    assert {name: row[name] for name in score(longer, longer, pairs)} == score(longer, longer, pairs)
    assert board["parts"][0]["pairs"] == PAIRS


def test_a_model_that_saw_the_pairs_is_marked(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    write_manifest(copy, ImplicitFeedbackReward.from_pretrained(EMBEDDED).config["training"]["release_sha256"])
    board = evaluate_reward_models(copy, behavior=["default"], seeds=1)
    assert list(by_model(board)) == ["longer answer", "behavior: default (saw these pairs)"]
    page = reward_models_page(board)
    assert "| behavior: default (saw these pairs) | 0." in page
    assert "trained on these very pairs, so this row proves nothing" in page


def test_judges_of_known_quality(folder: Path, pairs: Pairs) -> None:
    right = (2 * pairs.y - 1) * 3.0
    first = {"model_first": np.full(PAIRS, 4.0), "baseline_first": np.full(PAIRS, -4.0)}
    judges = {"right": both(right), "wrong": both(-right), "first": first}
    judgments = pl.concat([judged(pairs, points, judge=name) for name, points in judges.items()])
    board = evaluate_reward_models(folder, judgments=judgments, every_worker=True, seeds=2)
    rows = by_model(board)
    accuracy = {name: rows[f"judge: {name} (corrected)"]["accuracy"]["mean"] for name in judges}
    assert accuracy == {"right": 1, "wrong": 0, "first": 0.5}  # not turned round, and no side for always the first
    area = {name: rows[f"judge: {name} (corrected)"]["auc"]["mean"] for name in judges}
    assert area == {"right": 1, "wrong": 0, "first": 0.5}
    assert rows["judge: first (corrected)"]["brier"] == 0.25


def test_a_judge_that_disagrees_with_itself_or_fails_is_a_tie(pairs: Pairs) -> None:
    points = {"model_first": np.full(PAIRS, 2.0), "baseline_first": np.full(PAIRS, 1.0)}
    points["baseline_first"][0] = -2.0  # disagrees as strongly
    points["baseline_first"][1] = -1.0  # disagrees less strongly
    judgments = judged(pairs, points).with_columns(
        status=pl.when((pl.col("question_id") == 2) & (pl.col("order") == "model_first"))
        .then(pl.lit("refused"))
        .otherwise(pl.col("status"))
    )
    judgments = judgments.with_columns(score_model=pl.when(pl.col("status") == "ok").then("score_model"))
    judgments = judgments.filter((pl.col("question_id") != 3) | (pl.col("order") == "model_first"))
    ((name, settings, difference),) = judge_differences(pairs, judgments)
    assert (name, settings) == ("j (corrected)", '{"temperature": 0}')
    assert difference.to_list() == [0, 0.5, 0, None, *([1.5] * (PAIRS - 4))]


def test_slope_of_a_judge_by_hand(pairs: Pairs) -> None:
    """Right in three of four verdicts of one point: P = 3/4, so the slope is log 3. Swapping turns p into 1 - p."""
    y = pairs.y[:40]
    points = np.where(np.arange(40) % 4 < 3, 2 * y - 1, 1 - 2 * y).astype(float)
    train = Pairs(pairs.rows[:40].with_columns(judge_difference=points))
    test = Pairs(pairs.rows[:4].with_columns(judge_difference=np.array([1.0, -1.0, 0.0, 2.0])))
    assert fit_judge(train, test, 0) == pytest.approx([0.75, 0.25, 0.5, expit(2 * math.log(3))], abs=1e-4)


def test_only_pairs_the_judge_was_asked_about(folder: Path, pairs: Pairs) -> None:
    some = pairs.filter(pl.col("question_id") < 72)
    board = evaluate_reward_models(folder, judgments=judged(some, both(2.0 * some.y - 1)), seeds=1)
    (part,) = board["parts"]
    asked = some.filter(pl.col("split") == "test")
    assert part["pairs"] == len(asked) == 32
    longer = out_of_fold(pairs, LONGER_ANSWER.fit, "worker", 1)[:, (pairs.rows["split"] == "test").to_numpy()]
    kept = (pairs.filter(pl.col("split") == "test").rows["question_id"] < 72).to_numpy()
    assert part["rows"][0]["accuracy"]["mean"] == correct(longer[:, kept], asked.y).mean()


def test_judgments_that_cannot_be_used(folder: Path, pairs: Pairs) -> None:
    points = both(np.ones(PAIRS))
    for judgments, message in (
        (judged(pairs, points, llm="qwen"), "No judgment of the dataset's own pairs"),
        (judged(pairs, points, answer_model="x"), "Question 0: .* other answers than the dataset's"),
        (judged(pairs, {"model_first": np.ones(PAIRS)}), "in one order only"),
        (judged(pairs, points, status="malformed"), "no verdict in both orders of any pair"),
        (judged(pairs, points).filter(pl.col("question_id") < 20), r"Only \d+ rated pairs"),
    ):
        with pytest.raises(IfllmError, match=message):
            evaluate_reward_models(folder, judgments=judgments, seeds=1)
    with pytest.raises(IfllmError, match="Nothing to score"):
        evaluate_reward_models(folder, seeds=1)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random text reward model of ours, as `training/reward_student.py` leaves one."""
    folder = tmp_path_factory.mktemp("student")
    model, tokenizer = load_encoder("tiny", 0)
    model.config.reward_form = "bradley_terry"
    tokenizer.model_max_length = 64
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps({"dataset": "ORG/ifllm", "label_source": "forest"}))
    return folder


def test_text_model_of_ours(folder: Path, pairs: Pairs, student: Path) -> None:
    board = evaluate_reward_models(folder, text=[str(student)], seeds=1)
    row = by_model(board)[f"text: {student}"]
    test = pairs.filter(pl.col("split") == "test").rows
    reward = TextReward(student)
    asked = [[{"role": "user", "content": query}] for query in test["query"]]
    left, right = (np.array(reward(asked, test[f"response_{side}"].to_list())) for side in ("left", "right"))
    y = (test["preference"] == "left").to_numpy()
    assert row["accuracy"]["mean"] == np.mean((left > right) == y)
    assert row["brier"] == pytest.approx(np.mean((1 / (1 + np.exp(right - left)) - y) ** 2))
    assert row["trained_on"] == "the train split of ifllm, labels forest"


@pytest.mark.parametrize("kind", ["encoder", "decoder", "decoder without padding"])
def test_any_sequence_classifier(kind: str, tmp_path: Path) -> None:
    """Its score of an answer does not depend on what else is in the batch, but on the answer and the conversation."""
    import torch
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    model: Any
    model, tokenizer = load_encoder("tiny", 0)
    if kind != "encoder":
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, num_labels=1, **sizes)
            model = Qwen2ForSequenceClassification(config)
        model.config.pad_token_id = None if "without" in kind else tokenizer.pad_token_id
    else:
        tokenizer.chat_template = None  # then the user's texts and the answer are a pair of sentences
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    assert not scorer.ours
    conversations = [said("user", "One?"), said("user", "One?", "Yes.", "And two?"), said("user", "One?")]
    answers = ["Short.", "A much longer answer, with many more words in it.", "Another."]
    together = scorer.score(conversations, answers)
    alone = [scorer.score([one], [answer])[0] for one, answer in zip(conversations, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 6) for value in together}) == 3
    assert scorer.score([said("user", "Else?")], answers[:1]) != pytest.approx(together[:1], abs=1e-7)


def test_text_models_that_are_none(tmp_path: Path, student: Path) -> None:
    with pytest.raises(IfllmError, match="not a text reward model"):
        load_scorer(str(tmp_path / "nothing"))
    config = json.loads((student / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"reward_form": "cross_encoder"}))
    with pytest.raises(IfllmError, match="cannot score a single answer"):
        load_scorer(str(tmp_path))
    del config["reward_form"]
    labels = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config | labels))
    with pytest.raises(IfllmError, match="has 2 outputs"):
        load_scorer(str(tmp_path))


def test_script(
    folder: Path, pairs: Pairs, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["reward_model.py", *map(str, arguments), "--out", str(tmp_path / "out")])
        return int(runpy.run_path(str(PACKAGE.parent / "eval" / "reward_model.py"))["main"]())

    write_table(tmp_path / "judged.parquet", judged(pairs, both(2.0 * pairs.y - 1)))
    models = ["--behavior", "default", "--text", student, "--judgments", tmp_path / "judged.parquet"]
    assert run("--dataset", folder, *models, "--seeds", 1) == 0
    board = json.loads((tmp_path / "out/reward_models.json").read_text())
    assert [len(part["rows"]) for part in board["parts"]] == [3, 2]
    page = (tmp_path / "out/reward_models.md").read_text()
    assert "| judge: j (corrected) | 1.000 [1.000, 1.000] |" in page
    rows = [{"id": "1", "prompt": "?", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math"}]
    pl.DataFrame(rows).write_parquet(tmp_path / "bench.parquet")
    assert run("--reward_bench", tmp_path / "bench.parquet", "--text", student) == 0
    assert json.loads((tmp_path / "out/reward_bench.json").read_text())[str(student)]["answers"] == 4
    capsys.readouterr()
    assert run("--reward_bench", tmp_path / "bench.parquet") == 2
    assert run() == 2
    assert run("--reward_bench", tmp_path / "none.parquet", "--text", student) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: ") == 3
    assert "hf download allenai/reward-bench-2" in errors


@pytest.mark.real
def test_the_embedded_model_on_the_release(real_dataset: tuple[Path, float]) -> None:
    """The longer answer's row is that of the README, to the digit."""
    board = evaluate_reward_models(real_dataset[0], behavior=["default"], every_worker=True)
    rows = by_model(board)
    assert (board["parts"][0]["pairs"], board["parts"][0]["workers"]) == (668, 46)
    expected = json.loads((EMBEDDED / "leaderboard.json").read_text())["rows"]
    (longer,) = [row for row in expected if row["model"] == "longer answer" and row["protocol"] == "worker"]
    for name in ("accuracy", "auc", "brier", "ece", "accuracy_at_50"):
        assert rows["longer answer"][name] == pytest.approx(longer[name], abs=1e-9)
    assert "behavior: default (saw these pairs)" in rows
