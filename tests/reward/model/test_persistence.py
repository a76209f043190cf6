"""Saving and loading: a round trip, and every way in which a folder that somebody else wrote can be hostile."""

import contextlib
import io
import json
import subprocess
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.model import persistence
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.estimator_audit import MAX_UNPACKED_BYTES
from ifllm_hub.reward.model.persistence import CONFIG_FILE, MODEL_FILE, TRUSTED_TYPES, load_model, save_model
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs
from tests.reward.sent import CONFIG, WIDTH, put, refused, store


def test_round_trip(small_model: ImplicitFeedbackRewardModel, model_folder: Path, pairs: Pairs) -> None:
    loaded, config = load_model(model_folder)
    assert np.array_equal(loaded.predict_proba(pairs.X()), small_model.predict_proba(pairs.X()))
    assert loaded.get_params() == small_model.get_params()
    assert config["features"] == CONFIG["features"]
    assert config["slope"] == small_model.slope_


def test_nothing_needs_trust_but_the_named_types(model_folder: Path) -> None:
    content = (model_folder / MODEL_FILE).read_bytes()
    assert set(skops.io.get_untrusted_types(data=content)) == set(TRUSTED_TYPES)
    assert set(TRUSTED_TYPES) == {
        "ifllm_hub.reward.model.estimator.ImplicitFeedbackRewardModel",
        "sklearn.tree._tree.Tree",
    }


class Armed:
    """Leaves a file where it stands when it is made or restored."""

    marker = Path()

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.marker.touch()

    def __getstate__(self) -> dict[str, Any]:
        return {"value": 1}


class ArmedConstructor:
    marker = Path()

    def __init__(self, value: int):
        if self.marker.name:
            self.marker.touch()

    def __reduce__(self) -> Any:
        return type(self), (1,)


@pytest.mark.parametrize("kind", [Armed, ArmedConstructor])
def test_a_foreign_type_is_named_and_never_made(
    kind: type, small_model: ImplicitFeedbackRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deepcopy(small_model)
    model.forest_.verbose = kind() if kind is Armed else kind(1)
    store(model, tmp_path, small_model)
    monkeypatch.setattr(kind, "marker", tmp_path / "executed")
    refused(tmp_path, rf"holds the type .*\.{kind.__name__}, which no reward model of ours does")
    assert not (tmp_path / "executed").exists()
    trusting = [*TRUSTED_TYPES, f"{kind.__module__}.{kind.__name__}"]
    skops.io.loads((tmp_path / MODEL_FILE).read_bytes(), trusted=trusting)
    assert (tmp_path / "executed").exists(), "the file was harmless to begin with"


def test_a_function_is_not_called(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    model = deepcopy(small_model)
    model.forest_.verbose = subprocess.check_call
    store(model, tmp_path, small_model)
    refused(tmp_path, r"holds the type subprocess\.check_call")


def test_trust_given_elsewhere_does_not_count(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(small_model, tmp_path, small_model)
    monkeypatch.setattr(persistence, "TRUSTED_TYPES", TRUSTED_TYPES[:1])
    refused(tmp_path, r"holds the type sklearn\.tree\._tree\.Tree")


def test_whatever_a_trial_finds_is_damage(
    small_model: ImplicitFeedbackRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ValueError("first line\nsecond line")

    store(small_model, tmp_path, small_model)
    monkeypatch.setattr(ImplicitFeedbackRewardModel, "predict_proba", broken)
    with pytest.raises(IfllmError, match=rf"{MODEL_FILE}: damaged \(ValueError: first line\)\. Download"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_zipfile_does_not_bound(model_folder: Path, kind: int) -> None:
    buffer = io.BytesIO((model_folder / MODEL_FILE).read_bytes())
    with zipfile.ZipFile(buffer, "a", compression=kind) as archive:
        archive.writestr("1.npy", b"0")
    put(model_folder, buffer.getvalue())
    refused(model_folder, r"holds a file '1\.npy' of a kind")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_noticed_even_with_its_own_checksum(model_folder: Path, share: float) -> None:
    content = (model_folder / MODEL_FILE).read_bytes()
    (model_folder / MODEL_FILE).write_bytes(content[: int(share * len(content))])
    refused(model_folder, "its sha256 is not the one")
    put(model_folder, content[: int(share * len(content))])
    refused(model_folder, f"{MODEL_FILE}: damaged")


@pytest.mark.parametrize("content", [b"not a zip", b"PK\x03\x04", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_archive(model_folder: Path, content: bytes) -> None:
    put(model_folder, content)
    refused(model_folder, f"{MODEL_FILE}: damaged")


def test_an_archive_of_something_else(model_folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", "[]")
    put(model_folder, buffer.getvalue())
    refused(model_folder, f"{MODEL_FILE}: its schema has no protocol")


def test_an_archive_that_unpacks_to_any_size(model_folder: Path) -> None:
    buffer = io.BytesIO((model_folder / MODEL_FILE).read_bytes())
    with zipfile.ZipFile(buffer, "a", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.npy", bytes(MAX_UNPACKED_BYTES))
    put(model_folder, buffer.getvalue())
    assert len(buffer.getvalue()) < 200_000
    refused(model_folder, r"unpacks to 50,\d{3},\d{3} bytes")


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_yields_an_unsound_model(model_folder: Path, seed: int) -> None:
    """Bytes of one array or of the schema are overwritten; the archive itself stays whole."""
    generator = np.random.default_rng(seed)
    buffer, original = io.BytesIO(), zipfile.ZipFile(model_folder / MODEL_FILE)
    names = original.namelist()
    broken = "schema.json" if seed % 4 == 0 else names[generator.integers(len(names))]
    with original, zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = bytearray(original.read(name))
            if name == broken:
                for at in generator.integers(len(content), size=3):
                    content[at] = generator.integers(256)
            archive.writestr(name, bytes(content))
    put(model_folder, buffer.getvalue())
    with contextlib.suppress(IfllmError):
        model, _ = load_model(model_folder)
        X = generator.normal(size=(20, WIDTH))
        probability = model.predict_proba(X)
        assert ((probability >= 0) & (probability <= 1)).all()
        assert np.array_equal(model.predict_proba(-X), probability[:, ::-1])


@pytest.mark.parametrize("file", [CONFIG_FILE, MODEL_FILE])
def test_a_missing_file_is_named(model_folder: Path, file: str) -> None:
    (model_folder / file).unlink()
    refused(model_folder, file)


@pytest.mark.parametrize("config", ["{", "", "\ufeff{}", "[]", "null", "{}"])
def test_a_config_that_is_no_config(model_folder: Path, config: str) -> None:
    (model_folder / CONFIG_FILE).write_text(config)
    refused(model_folder, f"{CONFIG_FILE}: (damaged|not a reward model)")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"features": None},
        {"features": list(FEATURES)},
        {"features": [{"unit": "log"}] * WIDTH},
        {"features": [{"name": 1}] * WIDTH},
        {"sha256": None},
        {"sha256": "abc"},
    ],
    ids=str,
)
def test_a_config_of_another_form(model_folder: Path, change: dict[str, Any]) -> None:
    config = json.loads((model_folder / CONFIG_FILE).read_text())
    (model_folder / CONFIG_FILE).write_text(json.dumps(config | change))
    refused(model_folder, f"{CONFIG_FILE}: not a reward model of format 1")


def test_a_config_with_other_features(model_folder: Path) -> None:
    config = json.loads((model_folder / CONFIG_FILE).read_text())
    config["features"].pop()
    (model_folder / CONFIG_FILE).write_text(json.dumps(config))
    refused(model_folder, "expects 5 features, and config.json names 4")


def test_an_interrupted_save_leaves_the_old_model(
    model_folder: Path, small_model: ImplicitFeedbackRewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    other = deepcopy(small_model)
    other.slope_ = 9.0
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, model_folder, CONFIG)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in model_folder.iterdir()} == before


def test_a_save_cut_off_between_its_files_is_refused_not_mixed_up(
    model_folder: Path, small_model: ImplicitFeedbackRewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = persistence.write_atomically

    def killed_at_the_config(path: Path, content: Any) -> None:
        if path.name == CONFIG_FILE:
            raise KeyboardInterrupt
        written(path, content)

    other = deepcopy(small_model)
    other.slope_ = 9.0
    monkeypatch.setattr(persistence, "write_atomically", killed_at_the_config)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, model_folder, CONFIG)
    refused(model_folder, "its sha256 is not the one")


def test_an_unwritable_folder_is_one_error(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="cannot be written"):
        save_model(small_model, tmp_path / "missing", CONFIG)
