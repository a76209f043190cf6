"""A checkpoint goes to the Hub in one commit, whatever fails on the way, and chats where it is pulled."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM, AutoTokenizer

from ifllm_hub.align.runs import run as run_module
from ifllm_hub.align.runs.push import checkpoint_name, model_name
from ifllm_hub.align.stages.dpo import parse_dpo
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder
from tests.align.scripts import run_dpo
from tests.hub import client
from tests.hub.faults import What
from tests.hub.publishing import content, send
from tests.hub.server import READ_TOKEN, Hub

REPO = "lab/aligned"
TINY = shipped_folder("training") / "recipes" / "tiny" / "dpo.yaml"
HELLO = [{"role": "user", "content": "Hello"}]

Run = Callable[..., dict[str, Any]]


def flags(dataset: str | Path, out: Path, **more: Any) -> list[str]:
    given = {"config": TINY, "dataset": dataset, "output_dir": out, "max_steps": 1, "train_size": 8, "test_size": 4}
    given |= {"disable_tqdm": True, "push_to_hub": True, "hub_model_id": REPO} | more
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


@pytest.fixture
def run(labeled_dataset: Path, tmp_path: Path) -> Run:
    """One step of the tiny recipe in this process, then a push."""
    return lambda **more: run_dpo(*parse_dpo(flags(labeled_dataset, **{"out": tmp_path / "out"} | more)))


def files(hub: Hub) -> dict[str, bytes]:
    repo = hub.repos.get(("model", REPO))
    return {} if repo is None else {name: content.content for name, content in repo.main.files.items()}


def test_a_pushed_checkpoint_is_whole_and_chats_where_it_is_pulled(run: Run, hub: Hub, tmp_path: Path) -> None:
    run()
    info = HfApi().model_info(REPO)
    names = {file.rfilename for file in info.siblings or ()}
    assert {"model.safetensors", "README.md", "results.json", "trainer_state.json", "tokenizer.json"} <= names
    assert "chat_template.jinja" in names
    assert not [name for name in names if name.startswith("checkpoint") or name.endswith((".bin", ".jsonl", ".pt"))]
    assert HfApi().list_repo_commits(REPO)[0].title.startswith("Push with ifllm_hub")
    of_hub = {"revision": info.sha, "cache_dir": tmp_path / "home"}
    pulled = AutoModelForCausalLM.from_pretrained(REPO, **of_hub)
    tokenizer = AutoTokenizer.from_pretrained(REPO, **of_hub)
    prompt = tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = pulled.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] - prompt["input_ids"].shape[1] == 4
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        there, here = (model(torch.arange(20)[None]).logits.double().sum() for model in (pulled, kept))
    assert there.item() == here.item()


@pytest.mark.slow
def test_the_card_names_the_data_by_their_commit(old: Path, labeled_dataset: Path, hub: Hub, tmp_path: Path) -> None:
    """Trained on a Hub dataset in a process of its own, as `datasets` reads where its Hub is when it is imported."""
    commit, _ = send(labeled_dataset)
    script = shipped_folder("training") / "dpo.py"
    words = flags("lab/ifllm", tmp_path / "out", dataset_revision="main")
    done = client.run(hub, tmp_path / "home", sys.executable, script, *words)
    assert done.returncode == 0, done.stderr
    card = HfApi().hf_hub_download(REPO, "README.md")
    text = Path(card).read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["datasets"] == ["lab/ifllm"]
    assert {"dpo", "trl", "implicit-feedback"} <= set(header["tags"])
    assert f"training rows of `lab/ifllm` at revision `{commit}`" in text
    assert "`max_steps: 1`" in text
    assert "labeled by `forest`" in text


def put(contents: dict[str, bytes]) -> None:
    """Files that somebody else puts into the repo."""
    api = HfApi()
    api.create_repo(REPO, exist_ok=True)
    for path, given in contents.items():
        api.upload_file(path_or_fileobj=given, path_in_repo=path, repo_id=REPO)


def test_only_files_of_a_checkpoint_are_sent_and_deleted(
    run: Run, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What else lies in the folder stays here, links whatever their name; what else lies in the repo stays there."""
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    for name in (".env", "notes.txt", "data/test-00000.parquet", "data/README.md"):
        (out / name).write_text("TOKEN=secret")
    (tmp_path / "vocab.txt").write_text("TOKEN=secret")
    (out / "vocab.txt").symlink_to(tmp_path / "vocab.txt")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("TOKEN=secret")
    (out / "adapter").symlink_to(tmp_path / "adapter")
    run()
    pushed = files(hub)
    assert not [name for name, content in pushed.items() if b"secret" in content]
    told = f"{out}: left out, not part of a checkpoint: .env, adapter (a link), data/, notes.txt, vocab.txt (a link)"
    assert told in caplog.messages

    put({"onnx/model.onnx": b"theirs", "adapter/adapter_config.json": b"of an earlier run"})
    run()
    assert files(hub).keys() == {*pushed, "onnx/model.onnx"}
    assert files(hub)["onnx/model.onnx"] == b"theirs"


FOREIGN = {
    "an LLM": {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": b"1",
        "README.md": b"---\nlicense: mit\n---\n# Theirs",
    },
    "results of another program": {"results.json": b'{"stage": "eval", "versions": {"lm_eval": "1"}}'},
    "results that are no JSON": {"results.json": b"{"},
}


@pytest.mark.parametrize("contents", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_others_put_there_is_refused_before_training_and_stays(
    contents: dict[str, bytes], run: Run, hub: Hub, tmp_path: Path
) -> None:
    put(contents)
    repo = hub.repos["model", REPO]
    before, commits = files(hub), len(repo.commits)
    with pytest.raises(IfllmError, match=rf"{REPO}: exists on the Hub and was not made by.*--force_push true"):
        run()
    assert (files(hub), len(repo.commits)) == (before, commits)
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_what_others_put_there_is_replaced_if_insisted(run: Run, hub: Hub, tmp_path: Path) -> None:
    put(FOREIGN["an LLM"] | {"onnx/model.onnx": b"1"})
    results = run(force_push=True)
    assert "onnx/model.onnx" not in files(hub)
    assert files(hub)["results.json"] == (tmp_path / "out" / "results.json").read_bytes()
    assert "force_push" not in results["recipe"]


def test_what_others_put_there_while_it_trained_is_not_replaced(
    run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = run_module.model_card

    def meanwhile(*words: Any) -> str:
        put(FOREIGN["an LLM"])
        return finish(*words)

    monkeypatch.setattr(run_module, "model_card", meanwhile)
    with pytest.raises(IfllmError, match=r"complete in .*, but not pushed: .*was not made by this command"):
        run()
    assert files(hub)["model.safetensors"] == b"1"


def test_the_default_name_tells_llm_stage_and_labels(
    run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a checkpoint of ours, whose folder may be called anything; another folder must be named."""
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    made = run(out=".", hub_model_id=None)
    assert made["name"] == "tiny-dpo-forest"
    assert b"# tiny-dpo-forest" in hub.repos["model", "ada/tiny-dpo-forest"].main.files["README.md"].content
    monkeypatch.chdir(tmp_path)
    sft = tmp_path / "runs" / "sft"
    shutil.copytree(tmp_path / "out", sft)
    shutil.rmtree(tmp_path / "out")
    best = {"metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    again = run(hub_model_id=None, policy=sft, label_source="explicit", lora=True, **best)
    pushed = hub.repos["model", "ada/tiny-dpo-explicit"].main.files
    assert (again["llm"], again["model"], again["recipe"]["policy"]) == ("tiny", "sft", "sft")
    assert b"# tiny-dpo-explicit" in pushed["README.md"].content
    assert b"on labels that people gave" in pushed["README.md"].content
    assert json.loads(pushed["trainer_state.json"].content)["best_model_checkpoint"] == "checkpoint-1"
    assert not [name for name, file in pushed.items() if str(tmp_path).encode() in file.content], "a path from here"
    (sft / "results.json").unlink()
    with pytest.raises(IfllmError, match="Name the repo with --hub_model_id"):
        run(hub_model_id=None, policy=sft, out=tmp_path / "other")


NAMES = {
    "qwen3-1.7b-dpo-forest": {"llm": "qwen3-1.7b"},
    "qwen3-1.7b-dpo-reference-forest": {"llm": "qwen3-1.7b", "quirks": {"cut_answers": True}},
    "lab-a-dpo-forest": {"llm": model_name("lab/a")},
    "lab2-a-dpo-forest": {"llm": model_name("lab2/a")},
    "minilm-dpo-cross_encoder-forest": {"llm": "minilm", "form": "cross_encoder"},
    "a-dpo-minilm-reward-forest": {"llm": "a", "reward_model": "minilm-reward-forest"},
    "a-dpo-my-judge": {"llm": "a", "label_source": "my judge"},
    "sft-dpo-forest": {"llm": None, "model": "/runs/a/sft"},
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    assert checkpoint_name("dpo", {"label_source": "forest", "quirks": {}, **NAMES[name]}) == name


def test_who_may_not_write_to_a_repo_of_ours_is_told_before_training(
    run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"results.json": b'{"stage": "dpo", "versions": {"ifllm_hub": "0.1.0"}}'})
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(IfllmError, match=r"lab/aligned: .*token may not write"):
        run()
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_who_may_not_push_is_told_before_training(
    run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(IfllmError, match=r"lab/aligned: .*token may not write"):
        run()
    assert not list(tmp_path.glob("out/checkpoint-*"))


@pytest.mark.parametrize("what", [What.DROP_BEFORE, What.ERROR_AFTER])
def test_a_push_that_fails_leaves_all_or_nothing_and_is_done_by_the_next_start(
    what: What, run: Run, hub: Hub, tmp_path: Path, no_waiting: None
) -> None:
    run()
    whole = set(files(hub))
    requests = [call for call in hub.faults.calls if call.method in ("POST", "PUT")]
    commit = next(call.number for call in requests if "/commit/" in call.path)
    hub.repos.clear()
    hub.faults.clear()
    hub.faults.since(commit - 1, what)
    with pytest.raises(IfllmError, match=r"The run is complete in .*, but not pushed: .* Start it again to push it"):
        run()
    assert set(files(hub)) in (set(), {".gitattributes"}, whole)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    hub.faults.clear()
    again = run()
    assert again["resumed_from"] == "checkpoint-1", "no step is taken twice"
    assert set(files(hub)) == whole


@pytest.mark.slow
def test_a_process_killed_while_it_pushes_pushes_when_it_is_started_again(
    labeled_dataset: Path, hub: Hub, tmp_path: Path
) -> None:
    command = [sys.executable, str(shipped_folder("training") / "dpo.py"), *flags(labeled_dataset, tmp_path / "out")]
    environment = client.environment(hub, tmp_path / "home")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hub.faults.add(What.DROP_BEFORE, lambda call: "/commit/" in call.path, on_hit=process.kill)
    process.wait(timeout=300)
    assert process.returncode == -9
    assert "model.safetensors" not in files(hub)
    hub.faults.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["resumed_from"] == "checkpoint-1"
    pushed = files(hub)
    assert pushed["model.safetensors"] == content(tmp_path / "out")["model.safetensors"]
