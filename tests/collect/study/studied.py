"""A study with scripted models, a process.

python -m tests.collect.study.studied FOLDER PORT [PROTOCOL [CAMERA ["required"]]]
"""

import random
import sys
from dataclasses import replace
from pathlib import Path

import uvicorn

from ifllm_hub.collect.settings import Rate, Settings
from ifllm_hub.collect.study.app import create_study, create_study_app
from ifllm_hub.collect.study.flow import Study
from ifllm_hub.collect.study.models import EchoModel
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.state import PROTOCOLS, Protocol

# Two questions, and little time: what the tests of the page need unless they name a protocol.
SHORT = Protocol("pairwise", 2, 2, 0.5, 500, True)

if __name__ == "__main__":
    folder, port, *more = sys.argv[1:]
    collecting = Settings(Path(folder), origins=(f"http://127.0.0.1:{port}",), address_rate=Rate(5_000, 5_000))
    camera = Path(more[1]) if len(more) > 1 else None
    settings = StudySettings(
        collecting,
        models=("echo",),
        camera=camera,
        camera_required=more[2:] == ["required"],
        contact="Ada Example, ada@example.org",
    )
    models = [EchoModel("heron", words=120), EchoModel("otter", words=90)]
    # The protocols' own rules, but for the time that a conversation takes at least.
    protocol = SHORT
    if more and more[0] != "short":
        protocol = replace(PROTOCOLS[more[0]], least_seconds=min(2, PROTOCOLS[more[0]].least_seconds))
    collector = create_study(settings).collector
    study = Study(collector, models, protocol, settings.consent_version, random.Random(3))
    uvicorn.run(create_study_app(settings, study), host="127.0.0.1", port=int(port), log_level="warning")
