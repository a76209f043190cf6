"""Real training beside the first order: margins of held-out pairs after one epoch of DPO with AdamW.

python -m eval.studies.real_training runs/sim/dataset --sources explicit forest_mouse longer shuffled

For each source `run.json` has the correlation of its margins with those of the first order, after each number of steps.

A LoRA adapter on the last layers is trained on whole answers, without padding, NLL term or label smoothing. What enters
the first adapted layer never changes, so one pass gives it for every answer, together with the log-probabilities of the
reference, and all label sources share them. Only the tokens that some answer contains are in the output head, as in the
comparison to first order (`ifllm_hub.align.first_order`), whose margins these are to be held against. The test fold of
workers is held out, of which no model behind stored labels saw a pair.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from datasets import Dataset

from ifllm_hub.align.first_order.descent import LENGTHS, Labels, descend
from ifllm_hub.align.first_order.gradients import SEED, Adapter, log_prob, tokenize, with_adapter
from ifllm_hub.align.policies import load_policy
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.dataset.splits import TEST_FOLD
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import make_folder, write_atomically, write_parquet
from ifllm_hub.preferences.labels import SHUFFLED

BETA = 0.1
PAIRS_PER_STEP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a folder made by `ifllm build` and labeled by `ifllm label`")
    parser.add_argument("--policy", default=Adapter.policy)
    parser.add_argument("--layers", type=int, default=4, help="the last ones, which are trained")
    parser.add_argument("--sources", nargs="+", default=["explicit", "longer", SHUFFLED])
    parser.add_argument("--pairs", type=int, help="use only so many, drawn at random; all if left out")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--out", type=Path, default=Path("runs/real_training"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = rated_pairs(options.dataset)
    if options.pairs is not None:
        rows = rows.sample(min(options.pairs, rows.height), seed=SEED).sort("question_id")
    labels = {source: left_chosen(options.dataset, rows, source, TEST_FOLD) for source in options.sources}
    held_out = np.flatnonzero(rows["fold_worker"] == TEST_FOLD)
    make_folder(options.out)
    training = Training(rows, Adapter(options.policy, options.layers))
    costs, margins = [{"pass": "hidden states, reference", "tokens": training.tokens, "CPU s": time.process_time()}], []
    started = time.process_time()
    kernel = training.kernel()
    costs.append({"pass": "gradients", "tokens": training.tokens, "CPU s": time.process_time() - started})
    agreement, size = {}, {}
    for source, chosen in labels.items():
        started = time.process_time()
        tokens = training.train(chosen, options.learning_rate)
        costs.append({"pass": source, "tokens": tokens, "CPU s": time.process_time() - started})
        margin = training.margins(held_out.tolist())
        foretold = first_order(kernel, chosen)[:, held_out]
        agreement[source] = {n: np.corrcoef(margin, of)[0, 1] for n, of in zip(LENGTHS, foretold, strict=True)}
        size[source] = float(np.abs(margin).mean())
        found = {"question_id": rows["question_id"].gather(held_out), "margin": margin}
        margins.append(pl.DataFrame(found).select("question_id", pl.lit(source).alias("source"), "margin"))
        write_parquet(options.out / "margins.parquet", pl.concat(margins))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        said = {
            **vars(options),
            "pairs": rows.height,
            "training pairs": len(chosen),
            "costs": costs,
            "r": agreement,
            "margin": size,
            "peak memory (GiB)": peak,
        }
        write_atomically(options.out / "run.json", json.dumps(said, indent=2, default=str) + "\n")


def rated_pairs(dataset: str) -> pl.DataFrame:
    """`question_id`, `fold_worker`, `prompt`, `left`, `right` of the pairs that workers rated."""
    rated = load_config(dataset, preferences_config("explicit")).select("question_id", "prompt")
    pairs = load_config(dataset, "pairwise").join(rated, on="question_id", validate="1:1").sort("question_id")
    said = {side: pl.struct(role=pl.lit("assistant"), content=f"response_{side}") for side in ("left", "right")}
    answers = (pl.concat_list(message).alias(side) for side, message in said.items())
    return pairs.select("question_id", "fold_worker", "prompt", "response_left", *answers)


def left_chosen(dataset: str, rows: pl.DataFrame, source: str, fold: int) -> dict[int, bool]:
    """Whether the left answer is the better one, for each row outside of the fold that the label source decides.

    `shuffled` is the workers' labels permuted among these rows, and not the stored source, which mixes the folds.

    Raises:
        IfllmError: the label source decides none of them.
    """
    stored = load_config(dataset, preferences_config("explicit" if source == SHUFFLED else source))
    said = stored.select("question_id", chosen=pl.col("chosen").list.first().struct.field("content"))
    known = rows.with_row_index("row").filter(pl.col("fold_worker") != fold).join(said, on="question_id")
    if known.is_empty():
        raise IfllmError(f"{dataset}: {source!r} has no label for a rated pair outside of fold {fold}. Choose another.")
    known = known.sort("row").with_columns(left=pl.col("chosen") == pl.col("response_left"))
    left = known["left"].shuffle(SEED) if source == SHUFFLED else known["left"]
    return dict(zip(known["row"], left, strict=True))


def first_order(kernel: np.ndarray, chosen: dict[int, bool]) -> np.ndarray:
    """(lengths, pairs) margins to the first order, see `descend`."""
    signs = np.zeros((len(kernel), 1), np.int8)
    signs[list(chosen), 0] = [1 if left else -1 for left in chosen.values()]
    return descend(kernel, signs[:, 0] != 0, Labels.at_their_word(signs))[:, :, 0]


class Training:
    """A policy whose last layers are trained, what enters these for each answer, and how many `tokens` all have."""

    def __init__(self, rows: pl.DataFrame, adapter: Adapter) -> None:
        self._model, tokenizer = load_policy(adapter.policy, SEED)
        answers = tokenize(tokenizer, Dataset.from_polars(rows), adapter.max_length)
        self._model, _, self._places = with_adapter(self._model, adapter, answers.vocabulary)
        self._answers, self.tokens = answers.tokens, sum(len(ids) for ids, _ in answers.tokens)
        layers = self._model.model.layers
        seen: list[torch.Tensor] = []
        hook = layers[-adapter.layers].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            said = [self._said(at, input_ids=torch.tensor([ids])) for at, (ids, _) in enumerate(self._answers)]
        hook.remove()
        self._states, self._reference = seen, torch.stack(said)
        self._model.model.layers = layers[-adapter.layers :]
        self._start = {name: value.clone() for name, value in self._adapter()}

    def _adapter(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((name, value) for name, value in self._model.named_parameters() if ".lora_" in name)

    def _said(self, at: int, **inputs: torch.Tensor) -> torch.Tensor:
        """The log-probability of an answer, nats."""
        return log_prob(self._model, self._places, *self._answers[at], **inputs)

    def _margin(self, row: int) -> torch.Tensor:
        """The implicit reward of the left answer minus that of the right one, nats."""
        sides = (2 * row, 2 * row + 1)
        left, right = (self._said(at, inputs_embeds=self._states[at]) - self._reference[at] for at in sides)
        return BETA * (left - right)

    def kernel(self) -> np.ndarray:
        """(pairs, pairs) see `descend`, in Adam's geometry, of the adapter at its start."""
        parameters = [value for name, value in self._adapter() if ".lora_B." in name]
        rows = []
        for at, states in enumerate(self._states):
            found = torch.autograd.grad(self._said(at, inputs_embeds=states), parameters)
            rows.append(torch.cat([part.reshape(-1) for part in found]))
        answers = torch.stack(rows)
        delta = answers[::2] - answers[1::2]
        mean_square = delta.square().mean(0)
        return ((delta * torch.where(mean_square > 0, mean_square, torch.inf).rsqrt()) @ delta.T).double().numpy()

    def train(self, chosen: dict[int, bool], learning_rate: float) -> int:
        """Start again, and take one epoch; the tokens trained on."""
        for name, value in self._adapter():
            value.data.copy_(self._start[name])
            value.requires_grad_(True)
        optimizer = torch.optim.AdamW([value for _, value in self._adapter()], learning_rate, weight_decay=0)
        order = np.random.default_rng(SEED).permutation(sorted(chosen)).tolist()
        for start in range(0, len(order), PAIRS_PER_STEP):
            step = order[start : start + PAIRS_PER_STEP]
            for row in step:
                margin = self._margin(row)
                (-F.logsigmoid(margin if chosen[row] else -margin) / len(step)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return sum(len(self._answers[2 * row + side][0]) for row in order for side in (0, 1))

    @torch.no_grad()
    def margins(self, rows: list[int]) -> list[float]:
        """See `_margin`."""
        return [self._margin(row).item() for row in rows]


if __name__ == "__main__":
    main()
