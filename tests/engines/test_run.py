"""A task for each shard in this process: in order, none stopped by another's failure, one error at the end."""

import sys

import pytest

from ifllm_hub.engines.run import run_shards
from ifllm_hub.errors import IfllmError


def inverse(number: int) -> float:
    if number == 7:
        raise IfllmError("Seven is out. Choose another.")
    return 1 / number


def test_results_come_in_the_order_of_the_shards() -> None:
    shares: list[float] = []
    assert run_shards(inverse, [4, 2, 1, 8], advance=shares.append) == [0.25, 0.5, 1.0, 0.125]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert run_shards(inverse, []) == []


def test_the_others_are_done_before_one_error_names_those_that_failed() -> None:
    seen: list[int] = []

    def task(number: int) -> float:
        seen.append(number)
        return inverse(number)

    with pytest.raises(IfllmError) as caught:
        run_shards(task, [1, 0, 2, 7, 3])
    assert seen == [1, 0, 2, 7, 3]
    assert str(caught.value) == (
        "2 of 5 shards failed (0, 7). The first: ZeroDivisionError: division by zero. The other 3 are done: run it "
        "again for what is missing."
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_names_few_of_many() -> None:
    with pytest.raises(IfllmError, match=r"^7 of 8 shards failed \(0, 0, 0, 0, 0 and 2 more\)\. The first: Zero"):
        run_shards(inverse, [0] * 7 + [1])


def test_the_error_of_the_only_shard_is_told_as_it_is() -> None:
    with pytest.raises(IfllmError, match=r"^Seven is out\. Choose another\.$"):
        run_shards(inverse, [7])


def test_an_interrupt_stops_at_once() -> None:
    seen: list[int] = []

    def task(number: int) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(task, [1, 2, 3])
    assert seen == [1]


def test_ray_is_named_where_it_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        IfllmError, match=r"^The engine 'ray' is not installed\. Install it: pip install 'ifllm_hub\[ray"
    ):
        run_shards(inverse, [1], "ray")
    assert run_shards(inverse, [1]) == [1.0]


def test_a_cluster_that_is_not_used_is_refused() -> None:
    with pytest.raises(IfllmError, match="--address names a Ray cluster, which only --engine ray uses"):
        run_shards(len, ["a"], address="192.0.2.1:6379")
