"""Prompts and answers: who is asked, what is shown, and that an answer depends on its own prompt and seed alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ifllm_hub.align.policies import load_policy
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.generation import generate, sampling
from ifllm_hub.evaluation.generation.generate import GenerateArguments, run_generate
from ifllm_hub.evaluation.generation.model_revision import model_revision
from ifllm_hub.evaluation.generation.prompts import PromptArguments, load_prompts, sample
from ifllm_hub.evaluation.generation.sampling import Prompt, Sampling, prompt_seed, transformers_answers
from ifllm_hub.evaluation.journal import Journal
from ifllm_hub.evaluation.judge.inputs import pairs_of_generations
from ifllm_hub.evaluation.tables import GENERATIONS, read_generations, read_table
from ifllm_hub.evaluation.thoughts import without_thought
from tests.waiting import kill_after


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The questions that the model is really asked, in order."""
    asked: list[int] = []

    def listed(model: str, prompts: list[Prompt], *rest: Any) -> Any:
        asked.extend(prompt.question_id for prompt in prompts)
        return transformers_answers(model, prompts, *rest)

    monkeypatch.setitem(generate._ANSWERING, "transformers", listed)
    return asked


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy as a saved model."""
    folder = tmp_path_factory.mktemp("policy") / "tiny-saved"
    model, tokenizer = load_policy("tiny")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def arguments(dataset: Path, output: Path, **changes: Any) -> GenerateArguments:
    given = {"model": "tiny", "dataset": str(dataset), "output": output, "max_new_tokens": 12, "batch_size": 4}
    return GenerateArguments(**given | changes)


def rows_of(dataset: Path, config: str) -> pl.DataFrame:
    return pl.read_parquet(dataset / "data" / config / "test-00000-of-00001.parquet")


def test_prompts_are_those_of_test_workers(dataset: Path) -> None:
    prompts = load_prompts(PromptArguments(dataset=str(dataset)))
    kept = [rows_of(dataset, config).filter(~pl.col("ai_error")) for config in ("pairwise", "pointwise")]
    expected = {question: query for rows in kept for question, query in rows.select("question_id", "query").iter_rows()}
    shown = {row["question_id"]: row["messages"] for row in prompts.iter_rows(named=True)}
    assert shown == {question: [{"role": "user", "content": query}] for question, query in expected.items()}
    assert prompts.columns == ["question_id", "worker_id", "messages"]


def test_excluded_workers_are_left_out(dataset: Path, tmp_path: Path) -> None:
    for config in ("pairwise", "pointwise"):
        (tmp_path / "data" / config).mkdir(parents=True)
        for split in ("train", "test"):
            name = f"data/{config}/{split}-00000-of-00001.parquet"
            excluded = pl.read_parquet(dataset / name).with_columns(excluded_worker=pl.lit(config == "pairwise"))
            excluded.write_parquet(tmp_path / name)
    questions = load_prompts(PromptArguments(dataset=str(tmp_path)))["question_id"]
    assert set(questions) <= set(rows_of(dataset, "pointwise")["question_id"])


def test_fewer_prompts_are_the_first_of_more(dataset: Path) -> None:
    every = load_prompts(PromptArguments(dataset=str(dataset)))
    assert every.height == 12
    for n in (1, 5, 11):
        assert load_prompts(PromptArguments(dataset=str(dataset), prompts=n)).equals(every.head(n))
    other = load_prompts(PromptArguments(dataset=str(dataset), prompt_seed=1))
    assert set(other["question_id"]) == set(every["question_id"])
    assert other["question_id"].to_list() != every["question_id"].to_list()
    rows = pl.DataFrame({"question_id": range(400)})
    fifty = sample(rows.sample(fraction=1, shuffle=True, seed=3), 50, 42, "rows")
    assert fifty["question_id"].to_list() == sample(rows, 300, 42, "rows")["question_id"].to_list()[:50]


@pytest.mark.parametrize("n", [0, 13])
def test_more_prompts_than_there_are(dataset: Path, n: int) -> None:
    with pytest.raises(IfllmError, match=f"12 questions can be asked, not {n}"):
        load_prompts(PromptArguments(dataset=str(dataset), prompts=n))


def test_histories(dataset: Path) -> None:
    """The same questions in the same order, with more or less of what came before."""
    alone, turns, seen = (
        load_prompts(PromptArguments(dataset=str(dataset), history=history))  # type: ignore[arg-type]
        for history in ("none", "shared_user_turns", "chosen_side")
    )
    assert alone["question_id"].equals(turns["question_id"])
    assert alone["question_id"].equals(seen["question_id"])
    pointwise = rows_of(dataset, "pointwise").select("question_id", "messages")
    of_one = seen.join(pointwise, on="question_id", suffix="_stored")
    assert of_one.height == 6
    assert (of_one["messages"] == of_one["messages_stored"]).all()
    pairwise = {row["question_id"]: row for row in rows_of(dataset, "pairwise").iter_rows(named=True)}
    for row in seen.filter(pl.col("question_id").is_in(list(pairwise))).iter_rows(named=True):
        stored = pairwise[row["question_id"]]
        side = "right" if stored["preference"] == "right" else "left"
        assert row["messages"] == stored[f"messages_{side}"]
    for messages, whole in zip(turns["messages"].to_list(), seen["messages"].to_list(), strict=True):
        said = [turn["content"] for turn in whole if turn["role"] == "user"]
        assert messages == [{"role": "user", "content": "\n\n".join(said)}]


def test_a_second_run_and_more_prompts_make_only_what_is_missing(
    dataset: Path, tmp_path: Path, answering: list[int]
) -> None:
    five = run_generate(arguments(dataset, tmp_path / "a.parquet", prompts=5))
    assert answering == five["question_id"].to_list()
    assert run_generate(arguments(dataset, tmp_path / "a.parquet", prompts=5)).equals(five)
    assert len(answering) == 5
    twelve = run_generate(arguments(dataset, tmp_path / "a.parquet"))
    assert answering == twelve["question_id"].to_list()
    assert twelve.head(5).equals(five)
    assert read_table(tmp_path / "a.parquet", GENERATIONS).equals(twelve)
    run_generate(arguments(dataset, tmp_path / "a.parquet", prompts=5, seed=1))
    assert len(answering) == 17  # other settings, other answers
    settings = {"engine": "transformers", "greedy": False, "history": "none", "max_new_tokens": 12, "seed": 0}
    assert json.loads(five["settings"][0]) == settings | {
        "temperature": 1.0,
        "template": "own",
        "top_k": 0,
        "top_p": 0.95,
    }


def test_an_answer_does_not_depend_on_its_batch(dataset: Path, tmp_path: Path) -> None:
    alone = run_generate(arguments(dataset, tmp_path / "a.parquet", batch_size=1))
    together = run_generate(arguments(dataset, tmp_path / "b.parquet", batch_size=12))
    assert alone["answer"].equals(together["answer"])
    assert alone["prompt_tokens"].equals(together["prompt_tokens"])
    prompts = [Prompt(row["question_id"], row["messages"]) for row in alone.iter_rows(named=True)]
    backwards = transformers_answers("tiny", prompts[::-1], Sampling(max_new_tokens=12), 5)
    assert [answer.text for batch in backwards for answer in batch][::-1] == alone["answer"].to_list()
    other = run_generate(arguments(dataset, tmp_path / "c.parquet", seed=1))
    assert (other["answer"] != alone["answer"]).all()


def test_draws_follow_the_probabilities() -> None:
    """20,000 prompts of one token against the probabilities after temperature, top-k and top-p, computed by hand."""
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04], dtype=torch.float64))
    # Temperature 0.5 squares: .16 .09 .04 .0036 .0016, of .2952; top-k 3 leaves three; top-p 0.9 of these keeps the
    # first two and the third, since the first two sum to .862.
    expected = torch.tensor([0.16, 0.09, 0.04, 0, 0]) / 0.29
    settings = Sampling(max_new_tokens=1, temperature=0.5, top_k=3, top_p=0.9)
    prompts = [Prompt(number, []) for number in range(20_000)]
    scores = logits.float().repeat(len(prompts), 1)
    for warper in sampling._warpers(prompts, settings):
        scores = warper(None, scores)  # type: ignore[arg-type]
    drawn = torch.bincount(scores.argmax(dim=-1), minlength=5) / len(prompts)
    assert torch.allclose(drawn, expected, atol=0.015)
    assert drawn[3:].tolist() == [0, 0]


def test_greedy_is_what_transformers_does(dataset: Path, tmp_path: Path) -> None:
    table = run_generate(arguments(dataset, tmp_path / "g.parquet", prompts=3, greedy=True))
    model, tokenizer = load_policy("tiny")
    for row in table.iter_rows(named=True):
        inputs = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        tokens = inputs["input_ids"][0].tolist()  # type: ignore[index]
        new: list[int] = []
        while len(new) < 12 and tokenizer.eos_token_id not in new:
            with torch.no_grad():
                new.append(int(model(torch.tensor([tokens + new])).logits[0, -1].argmax()))
        assert row["answer"] == tokenizer.decode(new, skip_special_tokens=True).strip()
        assert row["prompt_tokens"] == len(tokens)
    assert json.loads(table["settings"][0]) == {
        "engine": "transformers",
        "greedy": True,
        "history": "none",
        "max_new_tokens": 12,
        "template": "own",
    }


def test_the_end_token_ends_an_answer() -> None:
    tokenizer = load_policy("tiny")[1]
    words = tokenizer.encode("a warm soup")
    end = tokenizer.eos_token_id
    stopped = sampling._answer([*words, end, *words], 5, [end], tokenizer, "")
    assert (stopped.text, stopped.finish_reason, stopped.answer_tokens) == ("a warm soup", "stop", len(words))
    cut = sampling._answer(words, 5, [end], tokenizer, "")
    assert (cut.text, cut.finish_reason, cut.answer_tokens) == ("a warm soup", "length", len(words))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("An answer.", "An answer."),
        ("<think>\nHm.\n</think>\n\nAn answer.", "An answer."),
        (" <think>Hm.</think>", ""),
        ("<think>Hm, and no end", ""),
        ("Hm.\n</think>\nAn answer.", "An answer."),  # the template opened it
        ("Write <think>...</think> around it.", "Write <think>...</think> around it."),
        ("<think>Hm.</think>The tag </think> ends it.", "The tag </think> ends it."),
    ],
)
def test_a_thought_is_no_part_of_an_answer(text: str, answer: str) -> None:
    assert without_thought(text) == answer


def test_thoughts_stay_in_the_cache_and_reach_no_judge(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = iter(["<think>Hm.</think>\n\nYes.", "<think>Hm, hm, hm", "No."])

    def thinking(model: str, prompts: list[Prompt], *rest: Any) -> Any:
        yield [sampling.Answer(text, "stop", 5, 7) for text in texts]

    monkeypatch.setitem(generate._ANSWERING, "transformers", thinking)
    table = run_generate(arguments(dataset, tmp_path / "a.parquet", prompts=3, batch_size=8))
    assert table["answer"].to_list() == ["Yes.", "", "No."]
    assert table["answer_tokens"].to_list() == [7, 7, 7]
    assert "<think>Hm." in (tmp_path / "a.jsonl").read_text()
    assert "1 of 3 answers are empty: they end within the model's thought" in caplog.text
    texts = iter(["<think>Hm"] * 3)
    with pytest.raises(IfllmError, match="All 3 answers end within the model's thought"):
        run_generate(arguments(dataset, tmp_path / "b.parquet", prompts=3))
    assert not (tmp_path / "b.parquet").exists()
    # Files of other tools may have them.
    foreign = table.with_columns(answer=pl.lit("<think>Hm.</think>Yes."), model=pl.lit("other"))
    foreign.write_parquet(tmp_path / "foreign.parquet")
    assert read_generations(tmp_path / "foreign.parquet")["answer"].to_list() == ["Yes."] * 3
    pairs = pairs_of_generations(tmp_path / "a.parquet", tmp_path / "foreign.parquet", "llm", "forest")
    assert pairs["answer_baseline"].to_list() == ["Yes."] * 3


def test_a_thought_that_the_template_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny policy with a template that ends in `<think>`: all it says belongs to a thought without an end."""
    policy, tokenizer = sampling._ready("tiny")
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    monkeypatch.setattr(sampling, "_ready", lambda model: (policy, tokenizer))
    prompt = Prompt(1, [{"role": "user", "content": "Why?"}])
    ((answer,),) = transformers_answers("tiny", [prompt], Sampling(max_new_tokens=3), 1)
    assert answer.text.startswith("<think>")
    assert without_thought(answer.text) == ""


def test_what_a_device_without_float64_draws_is_drawn_on_the_cpu() -> None:
    assert sampling.float64_device(torch.device("mps")) == torch.device("cpu")
    assert sampling.float64_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_seeds_are_of_the_prompt() -> None:
    message = [{"role": "user", "content": "Why?"}]
    seeds = {
        prompt_seed(seed, Prompt(question, messages))
        for seed in (0, 1)
        for question in (1, 2)
        for messages in (message, [*message, *message])
    }
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_revision_is_that_of_the_weights(tiny: Path, tmp_path: Path) -> None:
    import hashlib

    weights = tiny / "model.safetensors"
    assert model_revision(str(tiny)) == hashlib.sha256(weights.read_bytes()).hexdigest()
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    (sharded / "model-00001-of-00002.safetensors").write_bytes(b"one")
    (sharded / "model-00002-of-00002.safetensors").write_bytes(b"two")
    both = model_revision(str(sharded))
    (sharded / "model-00002-of-00002.safetensors").write_bytes(b"other")
    assert model_revision(str(sharded)) != both
    with pytest.raises(IfllmError, match="no weights in it"):
        model_revision(str(tmp_path))


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "a" * 40
    cached = tmp_path / "models--lab--policy"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert model_revision("lab/policy") == commit
    with pytest.raises(IfllmError, match="lab/other"):
        model_revision("lab/other")


def test_other_weights_under_the_same_name_are_answered_anew(
    dataset: Path, tmp_path: Path, tiny: Path, answering: list[int]
) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny, tmp_path / "policy"))
    first = run_generate(arguments(dataset, tmp_path / "a.parquet", model=str(folder), prompts=2))
    model, _ = load_policy("tiny", seed=1)
    model.save_pretrained(folder)
    second = run_generate(arguments(dataset, tmp_path / "a.parquet", model=str(folder), prompts=2))
    assert len(answering) == 4
    assert first["model"][0] == second["model"][0] == "policy"
    assert first["model_revision"][0] != second["model_revision"][0]


GENERATING = """
import json, sys
from pathlib import Path
from ifllm_hub.evaluation.generation.generate import GenerateArguments, run_generate
given = json.loads(sys.argv[1])
run_generate(GenerateArguments(**given | {"output": Path(given["output"])}))
"""


@pytest.mark.slow
def test_killed_and_nothing_is_generated_twice(dataset: Path, tmp_path: Path, answering: list[int]) -> None:
    settings = {"max_new_tokens": 60, "batch_size": 1, "prompts": 8}
    words = {"model": "tiny", "dataset": str(dataset), "output": str(tmp_path / "a.parquet"), **settings}
    process = subprocess.Popen([sys.executable, "-c", GENERATING, json.dumps(words)], start_new_session=True)
    journal = tmp_path / "a.jsonl"
    kill_after(process, lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2, 200)
    assert not (tmp_path / "a.parquet").exists()
    done = journal.read_bytes().count(b"\n")
    assert 2 <= done < 8
    resumed = run_generate(arguments(dataset, tmp_path / "a.parquet", **settings))
    assert answering == resumed["question_id"].to_list()[done:]
    whole = run_generate(arguments(dataset, tmp_path / "b.parquet", **settings))
    assert resumed.equals(whole)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"temperature": 0.0}, "set greedy"),
        ({"top_p": 1.5}, "at most 1"),
        ({"top_k": -1}, "at least 0"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"output": Path("a.csv")}, r"\.parquet"),
        ({"engine": "vllm"}, "vLLM is not installed"),
        ({"max_new_tokens": 2040}, "more than the 2048"),
        ({"model": "no/such-model-here"}, "no/such-model-here"),
    ],
)
def test_bad_settings(dataset: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(IfllmError, match=says):
        run_generate(arguments(dataset, **{"output": tmp_path / "a.parquet"} | changes))
    assert not (tmp_path / "a.parquet").exists()


def test_a_journal_is_one_process_at_a_time_and_says_what_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    with Journal(file, "key") as journal:
        journal.append([{"key": "a", "value": 1}])
        with pytest.raises(IfllmError, match="another process"), Journal(file, "key"):
            pass
    with file.open("a") as stream:
        stream.write('{"key": "b", "val')
    with Journal(file, "key") as journal:
        assert list(journal.records) == ["a"]
        journal.append([{"key": "b", "value": 2}])
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b"]
    file.write_text('{"key": "a"}\nnot JSON\n')
    with pytest.raises(IfllmError, match="line 2: damaged"), Journal(file, "key"):
        pass
