"""What labels teach a policy, where the truth is known and where it is not: two tables, a figure, three questions.

ifllm simulate runs/simulated --workers 60 --questions 1400
ifllm build --no-report runs/simulated runs/simulated-dataset
ifllm label runs/simulated-dataset
python -m eval.studies.real_training runs/simulated-dataset --pairs 300 --out runs/labels/training
python -m eval.studies.two_worlds runs/simulated runs/simulated-dataset runs/real/dataset --out docs/results/labels.md

The real dataset is labeled, too. Gradients are kept under runs/labels, so that a second run takes minutes.
"""

import argparse
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.align.first_order.comparison import FirstOrder, hits
from ifllm_hub.align.first_order.figure import worlds_picture
from ifllm_hub.align.first_order.page import (
    LABELS,
    MARGINS,
    WHAT,
    Labels,
    controls,
    method,
    read_labels_file,
    table_markdown,
    write_first_order,
)
from ifllm_hub.align.first_order.summary import FirstOrderBoard, Row
from ifllm_hub.cli.printing import bar
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.reward.protocol.tables import with_interval
from ifllm_hub.sources.simulation.simulate import TRUTH_FILE
from ifllm_hub.statistics import Estimate, jackknife_mean

TRUTH = "truth"
WORLDS = ("simulated", "real")
WIDTH = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("simulation", type=Path, help="a folder made by `ifllm simulate`")
    parser.add_argument("simulated", type=Path, help="the dataset built from it")
    parser.add_argument("real", help="the dataset of the study")
    parser.add_argument("--runs", type=Path, default=Path("runs/labels"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/labels.md"))
    options = parser.parse_args()
    label_by_truth(options.simulation, options.simulated, options.runs / "truth.csv")
    for world, dataset, judge in zip(WORLDS, (options.simulated, options.real), (TRUTH, "explicit"), strict=True):
        with bar(world) as advance:
            write_first_order(
                FirstOrder(str(dataset), options.runs / world, judged_by=judge, jobs=options.jobs), advance
            )
    write_page(options.out, options.runs)


def label_by_truth(simulation: Path, dataset: Path, file: Path) -> None:
    """Add the label source `truth` to a simulated dataset: the answer of higher utility."""
    truth = pl.read_parquet(simulation / TRUTH_FILE).filter(mode="pairwise")
    left = (pl.col("latent_preference") == "left").cast(pl.Float64)
    write_atomically(file, truth.select("question_id", probability=left).write_csv())
    write_preferences(dataset, labels=file, name=TRUTH)


def write_page(out: Path, runs: Path) -> None:
    """The page and its figure, from the results of both worlds."""
    trained = read_json(runs / "training" / "run.json")
    found = {world: read_labels_file(runs / world / LABELS) for world in WORLDS}
    margins = {world: pl.read_parquet(runs / world / MARGINS) for world in WORLDS}
    picture = out.with_suffix(".svg")
    titles = {"simulated": "simulated: truth is known", "real": "the study: what workers said"}
    write_atomically(picture, worlds_picture({titles[world]: found[world]["board"] for world in WORLDS}).svg)
    write_atomically(out, page(found, margins, trained, picture.name))


def page(found: dict[str, Labels], margins: dict[str, pl.DataFrame], trained: dict[str, Any], picture: str) -> str:
    parts = [f"# What labels teach a policy\n\n{fill(summary(found), WIDTH)}"]
    parts.append(f"![Accuracy by label source, in the simulated world and in the study]({picture})")
    parts.append(both_worlds(found, margins))
    parts.append(questions(found, margins))
    for world in WORLDS:
        board, settings = found[world]["board"], found[world]["settings"]
        parts.append(
            f"## {'The simulated world' if world == 'simulated' else 'The study'}\n\n{method(board, settings)}"
        )
        for geometry, name in (("adam", "In Adam's geometry"), ("plain", "Plain gradient")):
            parts.append(f"### {name}\n\n{table_markdown(board, geometry)}")
        parts.append(f"### Controls\n\n{controls(board)}")
    parts.append(f"## Against real training\n\n{against(trained)}")
    commands = "\n".join(line for line in (__doc__ or "").splitlines() if line.startswith(("ifllm", "python")))
    took = ", ".join(
        f"{world} {found[world]['seconds'] / 60:.0f} min and {found[world]['peak_memory_gb']:.1f} GB"
        for world in WORLDS
    )
    parts.append(
        f"## How it was made\n\n```sh\n{commands}\n```\n\n"
        + fill(f"Without the gradients: {took}, which include the files of the gradients.", WIDTH)
    )
    return "\n\n".join(parts) + "\n"


def summary(found: dict[str, Labels]) -> str:
    """What both worlds say, in a paragraph."""
    known, study = (found[world]["board"] for world in WORLDS)
    every = [row for table in study["tables"].values() for row in table["rows"]]
    told = (
        ", ".join(f"`{name}`" for name in dict.fromkeys(row["name"] for row in every if row["holm"] <= 0.05)) or "none"
    )
    beside = ", ".join(dict.fromkeys(f"`{row['name']}`" for row in every if row["beside_length"]["low"] > 0))
    ahead = ", ".join(dict.fromkeys(f"`{row['name']}`" for row in every if row["over_longer"]["low"] > 0)) or "none"
    above = [row for row in every if row["accuracy"]["mean"] > study["longer_answer"]["mean"]]
    left = (
        f"Beside the length of the answers, {beside} says something, each by an interval of its own."
        if beside
        else "Beside the length of the answers nothing is detected; a weak preference is not ruled out by so few pairs."
    )
    return (
        "In a simulated world, whose truth is known, a policy trained on labels from reading (`forest`) prefers the "
        f"better answer in {rate(known, 'forest')} of the pairs of unseen readers, one trained on what readers said in "
        f"{rate(known, 'explicit')}, on the truth in {rate(known, TRUTH)}, on shuffled labels in "
        f"{known['tables']['adam']['shuffled']['mean']:.3f}. On the study's {study['pairs']} pairs, told from shuffled "
        f"labels after correction in one geometry or the other: {told}; ahead of training on the longer answer, by an "
        f"interval of its own: {ahead}; of {len(every)} policies {len(above)} are right more often than the longer "
        f"answer itself. {left} The simulated texts are of few words, and quality is nearly a matter of which words. "
        "One world was simulated, and how far labels from reading fall behind what readers say depends on how many "
        "there are ([by number of readings](label_sources_by_size.md))."
    )


def both_worlds(found: dict[str, Labels], margins: dict[str, pl.DataFrame]) -> str:
    """The accuracy of both worlds side by side, which README.md shows."""
    boards = [found[world]["board"] for world in WORLDS]
    lines = []
    for name in [row["name"] for row in rows(boards[0])]:
        truth, study = (
            next((with_interval(row["accuracy"]) for row in rows(one) if row["name"] == name), "") for one in boards
        )
        said = with_interval(jackknife_mean(*right(margins["simulated"], name, "said")).estimate)
        lines.append((f"{WHAT.get(name, name)} (`{name}`)", truth, said, study))
    chances = [one["tables"]["adam"]["shuffled"] for one in boards]
    truth, study = (f"{chance['mean']:.3f}, 95 % in {chance['low']:.3f} to {chance['high']:.3f}" for chance in chances)
    lines.append(("the workers' labels, permuted (`shuffled`)", truth, "", study))
    truth, study = (with_interval(one["longer_answer"]) for one in boards)
    lines.append(("no policy: the longer answer itself", truth, "", study))
    head = (
        "trained on",
        "simulated, by the truth [95 % CI]",
        "simulated, by its workers",
        "study, by its workers [95 % CI]",
    )
    return markdown_table(head, lines)


def right(margins: pl.DataFrame, name: str, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether a policy prefers the answer that column `of` names, and whose pair it is, for each pair."""
    own = margins.filter(geometry="adam", source=name).sort("question_id")
    return hits(own["margin"].to_numpy(), np.where(own[of] == "left", 1, -1)), own["worker_id"].to_numpy()


def questions(found: dict[str, Labels], margins: dict[str, pl.DataFrame]) -> str:
    """What a sceptic asks."""
    known, study = (found[world]["board"] for world in WORLDS)
    gaps = {world: difference(margins[world], "forest", "explicit") for world in WORLDS}
    chances = {world: found[world]["board"]["tables"]["adam"]["shuffled"] for world in WORLDS}
    controls_learned = "".join(f", by `{row['name']}` {row['own']:.3f}" for row in study["tables"]["adam"]["positive"])
    items = (
        (
            "Does the trainer learn what labels say?",
            f"Of labels by the truth it reproduces {of(known, TRUTH)['own']:.3f} on unseen readers of the simulated "
            f"world; in the study, of labels by length {of(study, 'longer')['own']:.3f}"
            f"{controls_learned}.",
        ),
        (
            "Are labels from reading nearly as good as what people say?",
            f"Simulated: `forest` less `explicit` {with_interval(gaps['simulated'], '+.3f')}, `forest` less `longer` "
            f"{with_interval(of(known, 'forest')['over_longer'], '+.3f')}. In the study: `forest` less `explicit` "
            f"{with_interval(gaps['real'], '+.3f')}, `forest` less `longer` "
            f"{with_interval(of(study, 'forest')['over_longer'], '+.3f')}, `explicit` less `longer` "
            f"{with_interval(of(study, 'explicit')['over_longer'], '+.3f')}.",
        ),
        (
            "Is the control at chance?",
            "; ".join(
                f"{world}: {chance['mean']:.3f} on average, sd {chance['sd']:.3f} between permutations"
                for world, chance in chances.items()
            )
            + ". One permutation is no control: its result is anywhere in this range.",
        ),
    )
    return "\n".join(fill(f"- **{asked}** {said}", WIDTH, subsequent_indent="  ") for asked, said in items)


def against(trained: dict[str, Any]) -> str:
    """How margins of real training go with those to the first order."""
    lengths = list(next(iter(trained["r"].values())))
    held_out = trained["pairs"] - trained["training pairs"]
    text = (
        f"`{trained['policy']}`, one epoch of DPO with AdamW ({trained['learning_rate']:g}, 8 pairs a step) on a LoRA "
        f"of the last {trained['layers']} layers, on {trained['training pairs']} pairs of the simulated world: the "
        f"correlation of the margins of {held_out} pairs of held-out workers with those to the first order, in Adam's "
        "geometry, of the same adapter after so many steps. The last column has the mean size in real training."
    )
    lines = [
        (f"`{source}`", *(f"{r:.3f}" for r in each.values()), f"{trained['margin'][source]:.2f}")
        for source, each in trained["r"].items()
    ]
    return f"{fill(text, WIDTH)}\n\n{markdown_table(('trained on', *lengths, 'margin, nats'), lines)}"


def rows(board: FirstOrderBoard) -> list[Row]:
    return board["tables"]["adam"]["rows"]


def of(board: FirstOrderBoard, name: str) -> Row:
    return next(row for row in rows(board) if row["name"] == name)


def rate(board: FirstOrderBoard, name: str) -> str:
    return with_interval(of(board, name)["accuracy"])


def difference(margins: pl.DataFrame, one: str, other: str) -> Estimate:
    """How much more often a policy trained on one source is right than one trained on another."""
    (hits_one, workers), (hits_other, _) = (right(margins, name, "better") for name in (one, other))
    return jackknife_mean(hits_one - hits_other, workers).estimate


if __name__ == "__main__":
    main()
