"""What became of a shard, for engines to hand over: what its task returned, or this."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Failed:
    """Why a shard is not done."""

    cause: Exception
