"""Run a script under FSDP on CPU processes, where accelerate 1.15 ignores the sharding: the script's name, its flags.

`AcceleratorState` reads `distributed_type: FSDP` of a launcher config for GPUs and the like only, though torch shards
over gloo as well. This does for CPUs what it does for GPUs; the rest of accelerate, transformers and TRL is as it is.
"""

import runpy
import sys
from typing import Any

from accelerate.state import AcceleratorState, DistributedType, PartialState

initialize = AcceleratorState.__init__


def sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    initialize(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


AcceleratorState.__init__ = sharded
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
