"""The TRL reward function: logged answers get their probability, everything else gets None."""

import math
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward import functions
from ifllm_hub.reward.functions import BehaviorReward, behavior_reward, default_model, get_behavior_reward
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.protocol.pairs import FEATURES, GAZE_FEATURES, MOUSE_FEATURES, Pairs

LEFT = "response_left"


@pytest.fixture
def logged(pairs: Pairs) -> Pairs:
    """Eight pairs; the gaze of one was not recorded."""
    third = pl.int_range(pl.len()) == 2
    gone = {name: pl.when(third).then(None).otherwise(name) for name in GAZE_FEATURES}
    return Pairs(pairs.rows.head(8).with_columns(**gone))


@pytest.fixture
def columns(logged: Pairs) -> dict[str, list[Any]]:
    """The pairs as TRL hands them over: lists, None where a feature was not recorded."""
    return logged.rows.select("response_left", "response_right", *FEATURES).to_dict(as_series=False)


@pytest.fixture
def p_left(small_model: ImplicitFeedbackRewardModel, logged: Pairs) -> np.ndarray:
    return small_model.predict_proba(logged.X())[:, 1]


def chat(answers: list[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": answer}] for answer in answers]


def near(values: Any) -> Any:
    return pytest.approx(values.tolist(), abs=1e-12)


def reward(model: Any, completions: list[Any], columns: dict[str, list[Any]], **more: Any) -> list[float | None]:
    function = BehaviorReward(model, scale="probability")
    return function(prompts=["?"] * len(completions), completions=completions, **columns, **more)


@pytest.mark.parametrize("form", [list, chat])
def test_logged_answers_get_the_models_probability(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray, form: Any
) -> None:
    assert reward(model_folder, form(columns["response_left"]), columns) == near(p_left)
    assert reward(model_folder, form(columns["response_right"]), columns) == near(1 - p_left)


def test_unless_told_otherwise_it_is_the_logit_of_the_own_side(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray
) -> None:
    function = get_behavior_reward(model_folder)
    logit = np.log(p_left / (1 - p_left))
    assert function([], columns["response_left"], **columns) == near(logit)
    assert function([], columns["response_right"], **columns) == near(-logit)


def test_a_scale_that_is_none() -> None:
    with pytest.raises(IfllmError, match=r"no scale 'percent'\. Use one of: probability, logit"):
        get_behavior_reward(scale="percent")  # type: ignore[arg-type]


def test_what_nobody_was_seen_reading_gets_none(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray
) -> None:
    """The lengths of the answers are known, but that is no behavior."""
    for name in (*MOUSE_FEATURES, *GAZE_FEATURES):
        columns[name][5] = None
    expected = [None if row == 5 else near(p) for row, p in enumerate(p_left)]
    assert reward(model_folder, columns["response_left"], columns) == expected


def test_coverage_and_mean_are_logged(model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray) -> None:
    logged: dict[str, float] = {}
    answers = [*columns["response_left"][:6], "fresh", ""]
    reward(model_folder, answers, columns, log_metric=logged.__setitem__)
    assert logged == {"behavior_reward/coverage": 0.75, "behavior_reward/mean": near(p_left[:6].mean())}
    logged.clear()
    reward(model_folder, ["fresh"] * 8, columns, log_metric=logged.__setitem__)
    assert logged == {"behavior_reward/coverage": 0.0}
    logged.clear()
    reward(model_folder, [], {name: [] for name in columns}, log_metric=logged.__setitem__)
    assert logged == {}


def test_space_around_an_answer_does_not_matter(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray
) -> None:
    assert reward(model_folder, [f"\n{text} " for text in columns["response_left"]], columns) == near(p_left)


def test_any_other_text_gets_none(model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray) -> None:
    fresh = columns["response_left"].copy()
    fresh[1] += "!"
    fresh[3] = fresh[3][:-1]
    fresh[4] = ""
    fresh[5] = columns["response_left"][6]
    expected = [None if row in (1, 3, 4, 5) else near(p) for row, p in enumerate(p_left)]
    assert reward(model_folder, fresh, columns) == expected


def test_an_answer_that_was_on_both_sides_gets_none(model_folder: Path, columns: dict[str, list[Any]]) -> None:
    columns["response_right"] = columns["response_left"]
    assert reward(model_folder, columns["response_left"], columns) == [None] * 8


def test_a_message_without_text_gets_none(model_folder: Path, columns: dict[str, list[Any]]) -> None:
    messages: list[Any] = chat(columns["response_left"])
    messages[0] = [{"role": "assistant", "tool_calls": [{"name": "search"}]}]
    messages[1] = [{"role": "assistant", "content": None}]
    messages[2] = [{"role": "assistant", "content": [{"type": "text", "text": columns["response_left"][2]}]}]
    messages[3] = []
    scores = reward(model_folder, messages, columns)
    assert scores[:4] == [None] * 4
    assert None not in scores[4:]


def test_the_last_message_is_the_answer(model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray) -> None:
    steps = [[{"role": "assistant", "content": "Let me see."}, *message] for message in chat(columns["response_left"])]
    assert reward(model_folder, steps, columns) == near(p_left)
    assert reward(model_folder, [message[::-1] for message in steps], columns) == [None] * 8


@pytest.mark.parametrize("role", ["user", "system", "tool", None])
def test_what_the_assistant_did_not_say_gets_none(
    model_folder: Path, columns: dict[str, list[Any]], role: str | None
) -> None:
    said = [[{"role": "assistant", "content": "Well?"}, {"role": role, "content": text}] for text in columns[LEFT]]
    assert reward(model_folder, said, columns) == [None] * 8


@pytest.mark.parametrize("odd", [["a", "text"], 7, None, {"role": "assistant", "content": "x"}], ids=str)
def test_a_completion_of_another_kind_is_one_error(model_folder: Path, columns: dict[str, list[Any]], odd: Any) -> None:
    with pytest.raises(IfllmError, match=r"a list of messages with `role` and `content`; one of them is neither"):
        reward(model_folder, [*columns[LEFT][:7], odd], columns)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39, math.nan])
def test_an_infinite_feature_silences_its_row_and_no_other(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray, value: float
) -> None:
    for name in FEATURES[1:]:
        columns[name][5] = value
    expected = [None if row == 5 else near(p) for row, p in enumerate(p_left)]
    assert reward(model_folder, columns[LEFT], columns) == expected


@pytest.mark.parametrize("value", ["", "abc", "0.5", True, [0.5], 10**400], ids=lambda value: str(value)[:5])
def test_a_feature_that_is_no_number_is_named(model_folder: Path, columns: dict[str, list[Any]], value: Any) -> None:
    columns[FEATURES[2]] = [value] * 8
    with pytest.raises(IfllmError, match=f"The column {FEATURES[2]} is no list of numbers: .*None where"):
        reward(model_folder, columns[LEFT], columns)


@pytest.mark.parametrize("name", [LEFT, "response_right", FEATURES[0], FEATURES[-1]])
def test_a_column_of_another_length_is_named(model_folder: Path, columns: dict[str, list[Any]], name: str) -> None:
    answers = columns[LEFT].copy()
    columns[name] = columns[name][:3]
    with pytest.raises(IfllmError, match=f"The column {name} has 3 values for 8 completions"):
        reward(model_folder, answers, columns)


def test_a_logged_answer_that_is_no_text_is_named(model_folder: Path, columns: dict[str, list[Any]]) -> None:
    answers = columns[LEFT].copy()
    columns[LEFT][4] = 4.5
    with pytest.raises(IfllmError, match=r"The column response_left holds 4\.5, which is not a text"):
        reward(model_folder, answers, columns)


def test_a_row_without_logged_answers_gets_none(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray
) -> None:
    answers = columns["response_left"].copy()
    columns["response_left"][0] = columns["response_right"][0] = None
    scores = reward(model_folder, answers, columns)
    assert scores[0] is None
    assert scores[1:] == near(p_left[1:])


@pytest.mark.parametrize("missing", ["response_left", "response_right", FEATURES[0], FEATURES[-1]])
def test_a_missing_column_means_none_for_all(model_folder: Path, columns: dict[str, list[Any]], missing: str) -> None:
    answers = columns.pop(missing) if missing == "response_left" else columns["response_left"]
    columns.pop(missing, None)
    assert reward(model_folder, answers, columns) == [None] * 8


def test_what_else_trl_passes_is_accepted(model_folder: Path, columns: dict[str, list[Any]]) -> None:
    more = {
        "completion_ids": [[1]] * 8,
        "trainer_state": object(),
        "log_extra": print,
        "log_metric": {}.__setitem__,
        "x": [0],
    }
    assert None not in reward(model_folder, columns["response_left"], columns, **more)
    assert reward(model_folder, [], {name: [] for name in columns}) == []


def test_pickling_keeps_name_and_scores(model_folder: Path, columns: dict[str, list[Any]]) -> None:
    original = BehaviorReward(model_folder)
    scores = original(prompts=[], completions=columns["response_left"], **columns)
    content = pickle.dumps(original)
    assert len(content) < 1_000, "the model travels along"
    again = pickle.loads(content)
    assert again.__name__ == original.__name__ == "behavior_reward"
    assert again(prompts=[], completions=columns["response_left"], **columns) == scores


def test_the_dotted_path_of_trl_reaches_a_usable_object(columns: dict[str, list[Any]]) -> None:
    module, _, name = "ifllm_hub.reward.functions.behavior_reward".rpartition(".")
    assert getattr(import_module(module), name) is behavior_reward
    scores = pickle.loads(pickle.dumps(behavior_reward))([], columns["response_left"], **columns)
    assert all(isinstance(score, float) for score in scores)


def test_the_environment_names_the_model(
    model_folder: Path, columns: dict[str, list[Any]], p_left: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IFLLM_REWARD_MODEL", str(model_folder))
    assert reward(None, columns["response_left"], columns) == near(p_left)
    monkeypatch.setenv("IFLLM_REWARD_MODEL", "")
    assert reward(None, columns["response_left"], columns) == reward(default_model(), columns["response_left"], columns)


def test_a_model_is_read_once(
    model_folder: Path, columns: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = BehaviorReward(model_folder)
    first = function([], columns["response_left"], **columns)
    monkeypatch.setattr(functions, "ImplicitFeedbackReward", None)
    assert function([], columns["response_left"], **columns) == first


def test_a_folder_that_is_not_there(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    with pytest.raises(IfllmError, match=r"nowhere: no such reward model folder.*ifllm reward"):
        reward(tmp_path / "nowhere", columns["response_left"], columns)
    with pytest.raises(IfllmError, match=r"config\.json"):
        reward(tmp_path, columns["response_left"], columns)
