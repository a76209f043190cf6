"""The first model of the loop: a small language model that has learned to write as the simulated world does.

It is an ordinary checkpoint, a Qwen2 of two layers with a tokenizer and a chat template, so that `ifllm align` tunes it
like any other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eval.studies.known_truth.policy import learn_to_write, new_policy
from eval.studies.known_truth.quality import judge
from ifllm_hub.align.policies import small_tokenizer
from ifllm_hub.evaluation.generation.sampling import Prompt, Sampling, transformers_answers
from ifllm_hub.sources.simulation.people import QUALITY_SD
from ifllm_hub.sources.simulation.text import TOPICS, Topic, write_answer, write_query

# Answers are short, so that a policy of this size learns to write them in minutes: code points.
TYPICAL_LENGTH, LENGTH_SD, LENGTHS = 160, 0.45, (80, 500)
_TOKENS = 2048
_BATCH = 64


@dataclass(frozen=True)
class Question:
    """What is asked, and about which topic."""

    query: str
    topic: Topic
    part: str


@dataclass(frozen=True)
class Written:
    """An answer, and its utility by the words of it."""

    text: str
    utility: float


def questions(number: int, seed: int) -> list[Question]:
    rng = np.random.default_rng([seed, 7])
    asked = []
    for _ in range(number):
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        query, part = write_query(rng, topic, int(rng.integers(1, 3)))
        asked.append(Question(query, topic, part))
    return asked


def write_first_model(folder: Path, texts: int, passes: int, width: int, seed: int) -> None:
    """Train it and save it.

    Args:
        texts: from how many answers of the simulator it learns, `passes` times.
        width: of the policy.
    """
    rng = np.random.default_rng([seed, 8])
    asked = questions(texts, seed + 1)
    answers = [_simulated_answer(rng, question) for question in asked]
    tokenizer = small_tokenizer([*answers, *(question.query for question in asked)], _TOKENS)
    dialogues = []
    for question, answer in zip(asked, answers, strict=True):
        said = [{"role": "user", "content": question.query}]
        head = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
        dialogues.append(([*head, *tokenizer(answer)["input_ids"], tokenizer.eos_token_id], len(head)))
    policy = new_policy(len(tokenizer), width, seed)  # whose special tokens have the same numbers
    learn_to_write(policy, dialogues, passes, seed)
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def answered(model: Path, asked: list[Question], seed: int) -> list[Written]:
    """An answer of a model to each question, by sampling at temperature 1."""
    prompts = [Prompt(number, [{"role": "user", "content": one.query}]) for number, one in enumerate(asked)]
    sampling = Sampling(max_new_tokens=256, top_p=1.0, seed=seed)
    torch.set_num_threads(1)
    answers = (one for batch in transformers_answers(str(model), prompts, sampling, _BATCH) for one in batch)
    # A model may write a byte that no store takes, or nothing, for which a page shows a dash.
    texts = [one.text.replace("\0", "") or "-" for one in answers]
    utilities = judge(texts, [one.topic for one in asked]).utility
    return [Written(text, float(utility)) for text, utility in zip(texts, utilities, strict=True)]


def _simulated_answer(rng: np.random.Generator, question: Question) -> str:
    length = int(np.clip(TYPICAL_LENGTH * np.exp(rng.normal(0, LENGTH_SD)), *LENGTHS))
    return write_answer(rng, question.topic, question.part, rng.normal(0, QUALITY_SD), "prose", length, emoji=False)
