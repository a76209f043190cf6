"""Every column is declared once, with a meaning, and survives the way through `datasets`."""

import pyarrow as pa
import pytest
from datasets import Features

from ifllm_hub.dataset.schema import CONFIGS, DEFAULT_CONFIG, arrow_schema, columns, features
from ifllm_hub.features.catalog import CATALOG
from ifllm_hub.features.centering import LESS_HABIT

KINDS = [*CONFIGS, "preferences_forest"]


@pytest.mark.parametrize("config", KINDS)
def test_columns_are_named_once_and_explained(config: str) -> None:
    declared = columns(config)
    names = [column.name for column in declared]
    assert len(names) == len(set(names))
    assert names[0] == "question_id"
    assert all(column.meaning and "|" not in column.meaning for column in declared)
    measured = [c for c in declared if pa.types.is_list(c.type) and pa.types.is_primitive(c.type.value_type)]
    assert all(column.unit for column in measured if column.name != "face_ok")


@pytest.mark.parametrize("config", KINDS)
def test_the_schema_is_restored_by_datasets(config: str) -> None:
    schema = arrow_schema(config)
    assert [(field.name, field.type) for field in schema] == [(c.name, c.type) for c in columns(config)]
    assert Features.from_arrow_schema(schema) == features(config)


def test_the_features_config_is_the_catalog() -> None:
    declared = {column.name: column for column in CONFIGS["features"][3:]}
    assert list(declared) == [feature.name for feature in (*CATALOG, *LESS_HABIT)]
    for feature in (*CATALOG, *LESS_HABIT):
        assert declared[feature.name].unit == feature.unit
        assert (declared[feature.name].low, declared[feature.name].high) == (feature.low, feature.high)
        assert feature.formula in declared[feature.name].meaning
        assert declared[feature.name].type == pa.float64()


def test_the_default_config_is_one_of_them() -> None:
    assert DEFAULT_CONFIG in CONFIGS
