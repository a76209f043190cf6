"""The collector in a process of its own: `python -m tests.collect.served FOLDER PORT [ADDRESS_RATE]`."""

import sys
from pathlib import Path

from ifllm_hub.collect.app import serve
from ifllm_hub.collect.settings import Rate, Settings
from tests.collect.client import ORIGIN

if __name__ == "__main__":
    # All clients of a test come from one address.
    serve(Settings(Path(sys.argv[1]), origins=(ORIGIN,), address_rate=Rate(5_000, 5_000)), port=int(sys.argv[2]))
