"""All hostile folders."""

from pathlib import Path

from safetensors.numpy import load

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import MODEL_FILE
from tests.reward.hostile import ESTIMATOR, FLAT, Case, put
from tests.reward.hostile.archives import hostile_archives, hostile_schemas
from tests.reward.hostile.estimators import hostile_estimators, hostile_trees
from tests.reward.hostile.flat import hostile_arrays, hostile_safetensors
from tests.reward.hostile.folders import hostile_configs, hostile_files, stale_digests
from tests.reward.hostile.seeded import seeded

SEEDS = range(2)


def corpus(model: ImplicitFeedbackRewardModel, folder: Path) -> list[Case]:
    """All cases, made from the model and the folder that `sound` gives."""
    forest, estimator = (folder / FOREST_FILE).read_bytes(), (folder / MODEL_FILE).read_bytes()
    cases = [
        *(Case(f"arrays: {name}", FLAT, spoil) for name, spoil in hostile_arrays(load(forest))),
        *(Case(f"safetensors: {name}", FLAT, put(FOREST_FILE, c)) for name, c in hostile_safetensors(forest)),
        *(Case(f"tree: {name}", ESTIMATOR, spoil) for name, spoil in hostile_trees(model)),
        *(Case(f"estimator: {name}", ESTIMATOR, spoil) for name, spoil in hostile_estimators(model)),
        *(Case(f"skops: {name}", ESTIMATOR, put(MODEL_FILE, c)) for name, c in hostile_schemas(estimator)),
        *(Case(f"zip: {name}", ESTIMATOR, put(MODEL_FILE, content)) for name, content in hostile_archives(estimator)),
        *(Case(f"config: {name}", loaders, spoil) for name, loaders, spoil in hostile_configs()),
        *(Case(f"file: {name}", loaders, spoil) for name, loaders, spoil in hostile_files()),
        *(Case(f"stale: {name}", loaders, spoil) for name, loaders, spoil in stale_digests(forest, estimator)),
        *(
            Case(f"seeded: {name}", loaders, spoil)
            for seed in SEEDS
            for name, loaders, spoil in seeded(seed, forest, estimator)
        ),
    ]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    return cases
