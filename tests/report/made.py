"""What the stages of a run write, made up: a leaderboard, the configuration of a reward model, results of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ifllm_hub.align.stages.dpo import METRICS
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.folds import PROTOCOLS
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs
from ifllm_hub.reward.protocol.scores import MEASURES, score


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def board(pairs: Pairs) -> dict[str, Any]:
    """A leaderboard of two models, scored by the protocol itself on made-up probabilities."""
    contrast = np.nan_to_num(pairs.X(("length_log_ratio", "mouse_dwell_log_ratio")))
    length = 1 / (1 + np.exp(-contrast[:, :1].T))
    both = 1 / (1 + np.exp(-contrast.sum(axis=1)[None]))
    scored = {FOREST.name: score(both, length, pairs), LONGER_ANSWER.name: score(length, length, pairs)}
    adjusted = {"low": -0.1, "high": 0.2, "p": 0.4}
    return {
        "pairs": len(pairs),
        "workers": pairs.rows["worker_id"].n_unique(),
        "conversations": pairs.rows["conversation_id"].n_unique(),
        "left_preferred": float(pairs.y.mean()),
        "effective_workers": 6.5,
        "detectable_gain": 0.1,
        "seeds": 2,
        "rows": [
            {"model": name, "protocol": p, **row, "adjusted": dict.fromkeys(MEASURES, adjusted)}
            for p in PROTOCOLS
            for name, row in scored.items()
        ],
        "permuted_labels": {protocol: {"mean": 0.5, "sd": 0.01} for protocol in PROTOCOLS},
    }


def patterns() -> dict[str, Any]:
    findings = ["Twice the length changes <nothing>.", "Nobody skips."]
    return {"questions": 52, "workers": 8, "findings": findings, "effects": [{"p": 0.5}] * 3}


def reward_config(digest: str) -> dict[str, Any]:
    return {
        "features": [{"name": name, "unit": "log"} for name in FEATURES],
        "training": {"release_sha256": digest, "pairs": 40, "workers": 8, "excluded_workers_kept": False},
        "versions": {"ifllm_hub": "0.1.0", "scikit-learn": "1.9.1"},
    }


def results(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "weights": "A random Qwen2.",
        "label_source": "forest",
        "train_rows": 40,
        "test_rows": 8,
        "flip_prob_mean": 0.3,
        "flip_prob_max": 0.45,
        "flip_prob_origin": "each pair its own",
        "flip_weighting": "none",
        "robust_weight": 1.0,
        "nll": "token_mean",
        "nll_weight": 1.0,
        "beta": 0.1,
        "learning_rate": 0.001,
        "max_length": 512,
        "lora": None,
        "seed": 0,
        "rows_after_length_filter": 40,
        "test_rows_after_length_filter": 8,
        "pairs_truncated": 3,
        "steps": 3,
        "steps_in_one_epoch": 20,
        "rows_seen": 6,
        "rows_in_one_epoch": 40,
        "eval_before": dict.fromkeys(METRICS, 0.0),
        "eval_after": dict.fromkeys(METRICS, 0.25) | {"rewards/rejected": -0.5},
        "processes": 1,
        "device": "cpu",
        "resumed_from": None,
        "versions": {"python": "3.11.7", "trl": "1.16.0"},
        "wall_seconds": 1.9,
        **changes,
    }


def log() -> list[dict[str, Any]]:
    return [
        {"step": 0, "eval_loss": 7.0},
        *({"step": step, **dict.fromkeys(METRICS, step / 10)} for step in (1, 2, 3)),
        {"step": 3, "eval_loss": 6.0},
    ]
