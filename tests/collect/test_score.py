"""The live score: the shipped model's probability where there was enough reading, else the reason why not."""

import numpy as np
import pytest

from ifllm_hub.collect.score import LEAST_DWELL_MS
from ifllm_hub.features.habits import PRIOR_READINGS
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.hub import ImplicitFeedbackReward
from tests.collect.client import reading
from tests.collect.conftest import Site


def test_the_shipped_model_by_hand(site: Site) -> None:
    tokens = site.pair("ada", "q1", left="l" * 400, right="r" * 300)
    site.send(tokens, ticks=reading(8, 0) + reading(4, 1, start=20_000, length=300))
    got = site.post("score", {"token": tokens[1]}).json()["probability_left"]
    # 100 and 50 ticks of 80 ms, each answer from its first to nearly its last cell of 50 code points; a person read
    # once keeps three quarters of each contrast, and the dwell ratio has 500 ms added to both sides.
    kept = PRIOR_READINGS / (1 + PRIOR_READINGS)
    model = ImplicitFeedbackReward.from_pretrained(default_model())
    row = {
        "length_log_ratio": np.log(400 / 300),
        "mouse_dwell_log_ratio_less_habit": kept * np.log((8_000 + 500) / (4_000 + 500)),
        "mouse_coverage_diff_less_habit": kept * 0.0,
        "gaze_dwell_log_ratio_less_habit": np.nan,
        "gaze_coverage_diff_less_habit": np.nan,
    }
    assert got == pytest.approx(model.score({name: [value] for name, value in row.items()})[0], abs=1e-9)


def test_it_abstains(site: Site) -> None:
    single = site.register("ada", "q1")["token"]
    site.send([single], ticks=reading(10, 0))
    unread, touched, short = (site.pair("ada", f"q{n}") for n in (2, 3, 4))
    even = site.pair("bob", "q1", "l" * 400, "r" * 400)
    site.send(touched, sequence=1, ticks=[[*tick[:5], 2] for tick in reading(10, 0)])
    site.send(short, sequence=2, ticks=reading(LEAST_DWELL_MS / 1_000 - 0.5, 1))
    site.send(even, session=1, ticks=reading(6, 0) + reading(6, 1, start=20_000))
    for tokens, reason in (
        ([single], "one_answer"),
        (unread, "not_read"),
        (touched, "touch"),
        (short, "too_little"),
        (even, "undecided"),
    ):
        for token in tokens:
            assert site.post("score", {"token": token}).json() == {"abstain": True, "reason": reason}


def test_what_is_deleted_is_unknown(site: Site) -> None:
    made = site.register("ada", "q1")
    site.forget(made["person_token"])
    assert site.post("score", {"token": made["token"]}).status_code == 404
