"""Which arm of an experiment a person is in: for the server that shows the answers. It needs no state.

Everybody has a point in [0, 1), a keyed hash (HMAC-SHA256) of the experiment's name and the person's id. The arms share
that interval in the order in which they are given, each a part as long as its weight. So a person stays where they are
whoever joins, on every server that has the key, and two experiments are independent of each other.
"""

import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

from ifllm_hub.collect.wire import is_arm
from ifllm_hub.errors import IfllmError

# As many bits as a float64 has.
_BITS = 53


class Assignment(NamedTuple):
    """Where somebody is, as an answer's registration takes it.

    Attributes:
        arm: name of the arm.
        propensity: the probability of this arm, more than 0.
    """

    arm: str
    propensity: float


def assign(person: str, experiment: str, weights: Mapping[str, float], key: str) -> Assignment:
    """The arm of a person, the same at each call.

    Args:
        person: your own id of the person.
        experiment: its name; another one mixes people anew.
        weights: of each arm; only their ratios matter, and their order. With other weights the bounds between the arms
            move, and with them whoever is between the old and the new ones: an arm that grows keeps its people.
        key: a secret, so that nobody who knows an id can tell the arm or choose it.

    Raises:
        IfllmError: the key is empty, an arm's name is not one that a registration takes (1 to 64 printable
            characters), a weight is negative or not a number, or their sum is 0 or not a number.

    Examples:
        >>> from ifllm_hub.collect.experiment.assign import assign
        >>> arm, propensity = assign("ada", "shorter answers", {"now": 3, "shorter": 1}, key="a secret that stays")
        >>> arm, propensity
        ('shorter', 0.25)
        >>> people = [f"person {number}" for number in range(10_000)]
        >>> arms = [assign(person, "shorter answers", {"now": 3, "shorter": 1}, "a secret").arm for person in people]
        >>> round(arms.count("shorter") / len(people), 2)
        0.25
    """
    if not key:
        raise IfllmError("The key of an experiment is empty. Give a secret that stays the same.")
    for arm, weight in weights.items():
        if not is_arm(arm):
            raise IfllmError(f"{arm!r}: not a name of an arm. Write 1 to 64 printable characters.")
        if not 0 <= weight < math.inf:
            raise IfllmError(f"The weight of the arm {arm!r} is {weight}; it must be a number of at least 0.")
    chosen = {arm: weight for arm, weight in weights.items() if weight > 0}
    if not chosen:
        raise IfllmError(f"No arm of the experiment {experiment!r} has a weight of more than 0. Give one to each arm.")
    *bounds, total = accumulate(chosen.values())
    if total == math.inf:
        raise IfllmError(f"The weights of the experiment {experiment!r} add up to more than a float holds.")
    digest = hmac.digest(key.encode(), json.dumps([experiment, person]).encode(), hashlib.sha256)
    at = (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / 2**_BITS * total
    # The last arm has no bound of its own, which rounding could put below `at`.
    arm = next((arm for arm, bound in zip(chosen, bounds, strict=False) if at < bound), list(chosen)[-1])
    return Assignment(arm, chosen[arm] / total)
