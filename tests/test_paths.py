"""A folder may be called anything: what other programs take for a pattern or a link is a name like any other."""

import shutil
from pathlib import Path

import polars as pl

from ifllm_hub import reward
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.load import load_config
from ifllm_hub.evaluation.reward_models.best_of_n import read_benchmark
from ifllm_hub.evaluation.tables import read_table, write_table
from ifllm_hub.files import read_parquet, write_parquet
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.preferences.load import load_preferences
from ifllm_hub.report.replay import write_replay
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.sources.ifllm.archive import inventory
from tests.conftest import few_trees


def test_the_whole_way_in_a_folder_whose_name_looks_like_a_pattern(simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run [v1] *? #é%20"
    release = inventory(shutil.copytree(simulated / "dataset", folder / "release"))
    dataset = folder / "ds"
    build_dataset(release, dataset)
    with few_trees():
        write_preferences(dataset)
    assert load_preferences(dataset, "longer")["train"].num_rows
    model = ImplicitFeedbackReward.from_pretrained(Path(reward.__file__).with_name("default"))
    model.save_pretrained(folder / "model")
    model = ImplicitFeedbackReward.from_pretrained(folder / "model")
    assert len(model.score(load_config(dataset, "features"))) == 60
    question = load_config(dataset, "trajectories").filter(pl.col("t").list.len() > 0)["question_id"][0]
    assert write_replay(dataset, question, folder / "replay.html").is_file()


def test_other_tables_and_stores_in_such_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run [v1] *?"
    folder.mkdir()
    table = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    write_parquet(folder / "t[0].parquet", table)
    assert read_parquet(folder / "t[0].parquet", ["b"]).equals(table.select("b"))
    write_table(folder / "[a-z]*.parquet", table)
    assert read_table(folder / "[a-z]*.parquet", {"a": pl.Int64}).equals(table.select("a"))
    row = {"id": "1", "prompt": "p", "chosen": ["a"], "rejected": ["b"], "subset": "Focus"}
    pl.DataFrame([row]).write_ndjson(folder / "bench.jsonl")
    assert read_benchmark(folder / "bench.jsonl").to_dicts() == [row]
    Store(Settings(folder).url).close()
    assert (folder / "collected.sqlite").is_file()
