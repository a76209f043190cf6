"""The protocol: its folds share nothing, cover every pair, and its null labels mean nothing."""

import numpy as np
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.protocol.candidates import FOREST
from ifllm_hub.reward.protocol.folds import LEAVE_ONE_OUT, PROTOCOLS, block_permuted, correct, out_of_fold, permuted
from ifllm_hub.reward.protocol.leaderboard import Job
from ifllm_hub.reward.protocol.pairs import Pairs
from tests.conftest import few_trees
from tests.reward.made import half_and_half, made


@pytest.mark.parametrize("name", PROTOCOLS)
def test_folds_share_no_group_and_cover_every_pair(name: str) -> None:
    pairs = half_and_half(50)
    seen: dict[int, list[int]] = {0: [], 1: []}
    tested: list[frozenset[int]] = []

    def spy(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        assert not set(train.rows[PROTOCOLS[name]]) & set(test.rows[PROTOCOLS[name]])
        assert len(train) + len(test) == 50
        seen[seed] += test.rows["question_id"].to_list()
        tested.append(frozenset(test.rows["question_id"]))
        return test.rows["question_id"].to_numpy() / 100 + seed

    probability = out_of_fold(pairs, spy, name, seeds=2)
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(50))
    assert np.allclose(probability, [np.arange(50) / 100, np.arange(50) / 100 + 1]), "predictions left their rows"
    assert len(tested) == 10
    assert set(tested[:5]) != set(tested[5:]), "each seed draws its own folds"


def test_leaving_one_worker_out_leaves_out_exactly_one() -> None:
    pairs = half_and_half(50)
    left_out: list[list[str]] = []

    def spy(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        left_out.append(test.rows["worker_id"].to_list())
        assert set(train.rows["worker_id"]) == set(pairs.rows["worker_id"]) - set(left_out[-1])
        return test.rows["question_id"].to_numpy() / 100 + seed

    probability = out_of_fold(pairs, spy, LEAVE_ONE_OUT, seeds=2)
    assert np.allclose(probability, [np.arange(50) / 100, np.arange(50) / 100 + 1])
    assert sorted(left_out[:10]) == sorted([f"w{worker}"] * 5 for worker in range(10))
    assert sorted(left_out[:10]) == sorted(left_out[10:])


def test_remembering_workers_pays_only_where_folds_share_them() -> None:
    sides = np.arange(20) % 2 == 0
    workers = np.repeat(np.arange(20), 6)
    pairs = made(sides[workers].tolist(), workers.tolist(), np.repeat(np.arange(40), 3).tolist())

    def memory(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        known = dict(zip(train.rows["worker_id"], train.y, strict=True))
        return np.array([known.get(worker, 0.5) for worker in test.rows["worker_id"]], dtype=float)

    accuracy = {name: correct(out_of_fold(pairs, memory, name, 2), pairs.y).mean() for name in PROTOCOLS}
    assert accuracy["question"] == 1
    assert accuracy["conversation"] > 0.8
    assert accuracy["worker"] == 0.5


def test_permuting_moves_preferences_and_nothing_else(pairs: Pairs) -> None:
    shuffled = permuted(pairs, 1)
    assert shuffled.y.sum() == pairs.y.sum()
    assert (shuffled.y != pairs.y).mean() > 0.3
    assert shuffled.rows.drop("preference").equals(pairs.rows.drop("preference"))
    assert permuted(pairs, 1).rows.equals(shuffled.rows)
    assert not permuted(pairs, 2).rows.equals(shuffled.rows)


def test_swapping_moves_the_preferences_of_whole_conversations() -> None:
    lengths = [3] * 8 + [2] * 6 + [5]
    conversations = np.repeat(np.arange(len(lengths)), lengths)
    order = np.random.default_rng(0).permutation(len(conversations))
    left = np.random.default_rng(1).random(len(order)) > 0.5
    pairs = made(left[order].tolist(), [1] * len(order), conversations[order].tolist())
    exchanged = block_permuted(pairs, 3)
    assert exchanged.rows.drop("preference").equals(pairs.rows.drop("preference"))
    assert block_permuted(pairs, 3).rows.equals(exchanged.rows)
    assert not block_permuted(pairs, 4).rows.equals(exchanged.rows)

    def blocks(of: Pairs) -> dict[str, tuple[str, ...]]:
        grouped = of.rows.group_by("conversation_id").agg("preference")
        return {name: tuple(labels) for name, labels in grouped.iter_rows()}

    before, after = blocks(pairs), blocks(exchanged)
    assert sorted(before.values()) == sorted(after.values()), "a conversation was torn apart"
    assert before["c14"] == after["c14"], "no other has its length"
    assert sum(before[name] != after[name] for name in before) > 5


def test_recognizing_conversations_shows_in_the_block_permuted_labels_and_not_in_the_permuted() -> None:
    """What the swap is for: question folds reward it, and a permutation would hide that."""
    sides = np.arange(60) % 2 == 0
    conversations = np.repeat(np.arange(60), 4)
    pairs = made(sides[conversations].tolist(), (conversations // 3).tolist(), conversations.tolist())

    def memory(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        known = dict(zip(train.rows["conversation_id"], train.y, strict=True))
        return np.array([known.get(name, 0.5) for name in test.rows["conversation_id"]], dtype=float)

    accuracy = {
        (null, protocol): correct(out_of_fold(drawn, memory, protocol, 1), drawn.y).mean()
        for null, drawn in (("permuted", permuted(pairs, 0)), ("block_permuted", block_permuted(pairs, 0)))
        for protocol in PROTOCOLS
    }
    assert accuracy["block_permuted", "question"] > 0.95
    assert accuracy["permuted", "question"] == pytest.approx(0.5, abs=0.1)
    assert accuracy["block_permuted", "conversation"] == accuracy["block_permuted", "worker"] == 0.5


def test_the_forest_learns_preferences_and_falls_to_chance_without_them(pairs: Pairs) -> None:
    with few_trees():
        accuracy = correct(out_of_fold(pairs, FOREST.fit, "worker", 1), pairs.y).mean()
        null = Job("worker", 4, FOREST, "permuted_labels").run(pairs)
    sd = 0.5 / np.sqrt(len(pairs))
    assert accuracy > 0.5 + 3 * sd
    assert abs(null.mean() - 0.5) < 3 * sd / np.sqrt(len(null))


@pytest.mark.parametrize("protocol", [*PROTOCOLS, LEAVE_ONE_OUT])
def test_what_cannot_be_held_out_is_one_error(protocol: str) -> None:
    alone = made([True], [1])
    with pytest.raises(IfllmError, match=r"The 1 pairs to learn from are of one \w+, so that none"):
        out_of_fold(alone, FOREST.fit, protocol, 1)
