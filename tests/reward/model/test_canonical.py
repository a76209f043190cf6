"""The same model is the same bytes, wherever and whenever it was trained, and the same model still."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import skops.io

from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.canonical import canonical
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.estimator_audit import check_archive
from ifllm_hub.reward.model.persistence import CONFIG_FILE, MODEL_FILE, TRUSTED_TYPES, load_model, save_model
from ifllm_hub.reward.protocol.pairs import Pairs
from tests.hub.publishing import content

# Memory is laid out in another way when other objects were made before.
TRAIN = """
import sys
from pathlib import Path
ballast = [object() for _ in range(int(sys.argv[3]))]
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import save_model
from ifllm_hub.reward.protocol.pairs import FEATURES, labeled, load_pairs
pairs = labeled(load_pairs(Path(sys.argv[1])))
model = ImplicitFeedbackRewardModel(n_estimators=8).fit(pairs.X(), pairs.y, pairs.groups("worker_id"))
out = Path(sys.argv[2])
out.mkdir()
save_model(model, out, {"features": [{"name": name, "unit": "x"} for name in FEATURES]})
"""


def loaded(file: bytes) -> ImplicitFeedbackRewardModel:
    return skops.io.loads(file, trusted=list(TRUSTED_TYPES))


def gaps(held: bytes) -> np.ndarray:
    """The bytes of an `.npy` file of records that belong to no field; none of any other."""
    array = np.load(io.BytesIO(held))
    used = np.zeros(array.dtype.itemsize, dtype=bool)
    for kind, offset, *_ in (array.dtype.fields or {"": (array.dtype, 0)}).values():
        used[offset : offset + kind.itemsize] = True
    return np.frombuffer(held[-array.nbytes :], np.uint8).reshape(-1, len(used))[:, ~used]


def test_two_trainings_in_two_processes_are_the_same_bytes(study: Path, tmp_path: Path) -> None:
    for seed, ballast in ((1, 10), (2, 100_003)):
        words = [sys.executable, "-c", TRAIN, study, tmp_path / str(seed), str(ballast)]
        subprocess.run(words, env=os.environ | {"PYTHONHASHSEED": str(seed)}, check=True, timeout=300)
    assert content(tmp_path / "1") == content(tmp_path / "2") != {}
    load_model(tmp_path / "1")


def test_a_model_that_is_loaded_and_saved_is_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    model, config = load_model(model_folder)
    (tmp_path / "again").mkdir()
    save_model(model, tmp_path / "again", {"features": config["features"]})
    assert content(tmp_path / "again") == content(model_folder)


def test_it_is_the_same_estimator(small_model: ImplicitFeedbackRewardModel, pairs: Pairs) -> None:
    before = skops.io.dumps(small_model)
    after = canonical(before)
    assert check_archive(after) is None
    assert canonical(after) == after
    was, now = loaded(before), loaded(after)
    assert now.get_params() == was.get_params()
    assert str(now.forest_.get_params()) == str(was.forest_.get_params())
    assert now.forest_.estimator is now.forest_.estimator_
    assert np.array_equal(now.predict_proba(pairs.X()), was.predict_proba(pairs.X()))
    for tree, other in zip(now.forest_.estimators_, was.forest_.estimators_, strict=True):
        assert str(tree.get_params()) == str(other.get_params())
        nodes, same = tree.tree_.__getstate__()["nodes"], other.tree_.__getstate__()["nodes"]
        assert all(np.array_equal(nodes[name], same[name]) for name in nodes.dtype.names)
        assert np.array_equal(tree.tree_.value, other.tree_.value)


def test_nothing_of_the_process_is_in_it(small_model: ImplicitFeedbackRewardModel) -> None:
    """Neither addresses, nor the hour, nor what lay in memory between the fields of a record."""
    with zipfile.ZipFile(io.BytesIO(canonical(skops.io.dumps(small_model)))) as archive:
        held = [gaps(archive.read(name)) for name in archive.namelist() if name != "schema.json"]
        numbers = {int(number) for number in re.findall(r'"__id__":(\d+)', archive.read("schema.json").decode())}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert sum(of_one.size > 0 for of_one in held) == small_model.n_estimators
    assert not any(of_one.any() for of_one in held)
    assert numbers == set(range(1, len(numbers) + 1))


def test_what_lay_between_the_fields_does_not_matter(small_model: ImplicitFeedbackRewardModel) -> None:
    before, buffer = skops.io.dumps(small_model), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(before)) as archive, zipfile.ZipFile(buffer, "w") as other:
        for name in archive.namelist():
            held = archive.read(name)
            if name != "schema.json" and gaps(held).size:
                array = np.load(io.BytesIO(held))
                dirty = np.full(array.nbytes, 0xA5, np.uint8).view(array.dtype)
                for field in array.dtype.names:
                    dirty[field] = array[field]
                held = held[: -array.nbytes] + dirty.tobytes()
                assert gaps(held).all()
            other.writestr(name, held)
    assert canonical(buffer.getvalue()) == canonical(before)


def test_the_shipped_model_is_canonical(tmp_path: Path) -> None:
    """It can be made again, or saved again, without a difference to commit."""
    model, config = load_model(default_model())
    save_model(model, tmp_path, {key: config[key] for key in config if key not in ("format", "slope", "sha256")})
    for name in (MODEL_FILE, CONFIG_FILE):
        assert (tmp_path / name).read_bytes() == (default_model() / name).read_bytes()
    assert json.loads((tmp_path / CONFIG_FILE).read_text()) == config
