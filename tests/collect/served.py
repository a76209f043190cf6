"""The collector in a process of its own: `python -m tests.collect.served FOLDER PORT [DATABASE]`."""

import sys
from pathlib import Path

from ifllm_hub.collect.server.app import serve
from ifllm_hub.collect.settings import Rate, Settings
from tests.collect.client import ORIGIN

if __name__ == "__main__":
    folder, port, *database = sys.argv[1:]
    # All clients of a test come from one address.
    one = Settings(Path(folder), database=(database or [None])[0], origins=(ORIGIN,), address_rate=Rate(5_000, 5_000))
    serve(one, port=int(port))
