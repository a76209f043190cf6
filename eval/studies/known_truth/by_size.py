"""How many readings it takes: label sources by number of readings, where the truth is known.

python -m eval.studies.known_truth.by_size --out docs/results/label_sources_by_size.md

Studies and gradients are kept in the folder `--work`, which `answers` shares. The figure is written beside the page.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eval.studies.known_truth.answers import Size, dialogues, ends, interval, paragraph, writer
from eval.studies.known_truth.policy import Phrases
from eval.studies.known_truth.world import model_labels, pooled, signs, study
from ifllm_hub.align.first_order.comparison import hits
from ifllm_hub.align.first_order.descent import LENGTHS, Labels, descend
from ifllm_hub.align.first_order.gradients import Adapter, gradients, with_adapter
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.pages.plot_style import MUTED, SERIES, legend_below, styled, write_svg
from ifllm_hub.reward.protocol.pairs import Pairs

SIZES = (50, 150, 500, 1500, 5000)
FEW = 0.02
WRITER = 100
ADAPTER = Adapter(policy="", layers=2, rank=8)
IMPLICIT = ("forest", "forest_mouse", "text", "longer")
FROM_READINGS = ("truth", "explicit", *IMPLICIT)
STUDY, BOTH = "study", "study_forest"
# With fewer labels, the length of training is not chosen, and one step is taken.
LEAST = 20
WHAT = {
    "truth": "the better answer, of all readings",
    "explicit": "what the readers said, all of them",
    "explicit_2": f"what {FEW:.0%} of the readers said",
    "forest": "the forest on mouse, gaze and length",
    "forest_mouse": "the forest on the mouse",
    "text": "a reward on the words",
    "longer": "the longer answer",
    STUDY: "the rated pairs that these three learned from, themselves",
    BOTH: "these, and the forest's labels of all readings",
}


@dataclass(frozen=True)
class Draw:
    """What one draw found.

    Attributes:
        accuracy: (source, readings) -> share of unseen pairs on which the policy prefers the better answer.
        few: labels -> that of `explicit_2`, by its number of labels.
        right, said: source -> share of its labels that name the better answer, and the one that the reader named.
    """

    accuracy: dict[tuple[str, int], float]
    few: dict[int, float]
    right: dict[str, float]
    said: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/known_truth"), help="for studies and gradients")
    parser.add_argument("--out", type=Path, default=Path("runs/label_sources_by_size.md"))
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--studies", type=int, default=11, help="simulated studies, of which 2 are not for readings")
    options = parser.parse_args()
    run(options.work, options.out, options.draws, options.studies, SIZES, Size())


def run(work: Path, out: Path, draws: int, studies: int, sizes: tuple[int, ...], size: Size) -> None:
    """Do what is missing and write the page, with those of the sizes for which the studies have enough readings."""
    every = [study(work, seed, size.workers, size.questions) for seed in range(1, studies + 1)]
    # At least, whichever two are not for readings.
    readings = sum(sorted(map(len, every))[:-2])
    sizes = tuple(number for number in sizes if number <= readings)
    if not sizes:
        raise IfllmError(f"{studies} studies leave {readings} readings, which are too few. Add studies.")
    gradient = np.concatenate(pair_gradients(work, every, size))
    kernel = gradient @ gradient.T
    found = [one_draw(every, kernel, number, sizes) for number in range(draws)]
    picture = out.with_suffix(".svg")
    draw(found, sizes, picture)
    write_atomically(out, "\n".join(page(found, every, sizes, picture.name)) + "\n")


def pair_gradients(work: Path, every: list[Pairs], size: Size) -> list[np.ndarray]:
    """Of each study: (pairs, parameters) float32, how the margin of the left answer moves with the policy's adapter."""
    files = [work / f"gradients-{number + 1}.npy" for number in range(len(every))]
    if not all(file.is_file() for file in files):
        torch.set_num_threads(1)
        phrases = Phrases()
        model, parameters, places = with_adapter(writer(phrases, WRITER, size), ADAPTER, list(range(len(phrases))))
        for file, pairs in zip(files, every, strict=True):
            if not file.is_file():
                texts = [answer for pair in dialogues(phrases, pairs) for answer in pair]
                found = torch.stack(list(gradients(model, parameters, places, texts)))
                np.save(file, (found[::2] - found[1::2]).numpy())
    return [np.load(file) for file in files]


def one_draw(every: list[Pairs], kernel: np.ndarray, number: int, sizes: tuple[int, ...]) -> Draw:
    """One study is tested on, the next one trains the models behind the labels, and all others are read.

    Args:
        kernel: (pairs, pairs) inner products of the gradients of all studies' pairs, in order.
    """
    count = len(every)
    test, other = number % count, (number + 1) % count
    rest = [at for at in range(count) if at not in (test, other)]
    readings = pooled([every[at] for at in rest])
    order = np.random.default_rng([number, 6]).permutation(len(readings))[: max(sizes)]
    labels = {"truth": signs(readings, "latent_preference"), "explicit": signs(readings)}
    labels = {name: label[order] for name, label in (labels | model_labels(every[other], readings)).items()}
    starts = np.cumsum([0, *map(len, every)])
    places = [np.arange(starts[at], starts[at + 1]) for at in range(count)]
    read, tested, there = np.concatenate([places[at] for at in rest])[order], places[test], places[other]
    better = signs(every[test], "latent_preference")

    def score(train: np.ndarray, by_source: np.ndarray) -> np.ndarray:
        some = np.concatenate([train, tested])
        return accuracy(kernel[np.ix_(some, some)], by_source, better, number)

    found: dict[tuple[str, int], float] = {}
    few: dict[int, float] = {}
    said_there = signs(every[other])[:, None]
    alone = score(there, said_there)[0]
    for size in sizes:
        of_size = np.column_stack([labels[name][:size] for name in FROM_READINGS])
        found |= {(name, size): value for name, value in zip(FROM_READINGS, score(read[:size], of_size), strict=True)}
        asked = max(1, round(FEW * size))
        few[asked] = found["explicit_2", size] = score(read[:asked], labels["explicit"][:asked, None])[0]
        together = np.concatenate([said_there, labels["forest"][:size, None]])
        found[STUDY, size] = alone
        found[BOTH, size] = score(np.concatenate([there, read[:size]]), together)[0]
    right, said = (
        {name: float((label == labels[of])[label != 0].mean()) for name, label in labels.items()}
        for of in ("truth", "explicit")
    )
    return Draw(found, few, right, said)


def accuracy(kernel: np.ndarray, signs_of: np.ndarray, better: np.ndarray, seed: int) -> np.ndarray:
    """(sources,) share of test pairs on which the policy prefers the better answer, after training to the first order.

    The length of training is the one at which half of the labels are reproduced best from the other half.

    Args:
        kernel: of training pairs, then test pairs.
        signs_of: (training pairs, sources).
        better: (test pairs,) signs.
    """
    n, sources = signs_of.shape
    right = np.zeros((len(LENGTHS), sources))
    if n >= LEAST:
        half = np.random.default_rng([seed, 7]).permutation(n) < n // 2
        among = kernel[:n, :n]
        for kept in (half, ~half):
            again = hits(descend(among, kept, Labels.at_their_word(signs_of)), signs_of) * (signs_of != 0)
            right += again[:, ~kept].sum(axis=1)
    train = np.arange(len(kernel)) < n
    padded = np.concatenate([signs_of, np.zeros((len(better), sources), np.int8)])
    margins = descend(kernel, train, Labels.at_their_word(padded))[right.argmax(axis=0), n:, range(sources)]
    return np.asarray(hits(margins, better).mean(axis=1))


def explicit_curve(found: list[Draw]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of explicit labels, and the mean accuracy of policies trained on so many; made not to fall."""
    sizes = [size for name, size in found[0].accuracy if name == "explicit"]
    points = {labels: float(np.mean([one.few[labels] for one in found])) for labels in found[0].few}
    points |= {size: float(by_draw(found, "explicit", size).mean()) for size in sizes}
    numbers = np.array(sorted(points))
    return numbers, np.maximum.accumulate([points[number] for number in numbers])


def page(found: list[Draw], every: list[Pairs], sizes: tuple[int, ...], picture: str) -> Iterator[str]:
    """What was found, as the page."""
    yield "# Label sources by number of readings, where the truth is known\n"
    yield "Written by `python -m eval.studies.known_truth.by_size --out FILE`; do not edit.\n"
    pairs = np.mean([len(one) for one in every])
    yield paragraph(
        f"{len(every)} simulated studies of {pairs:.0f} rated pairs on average (`--studies {len(every)} --draws "
        f"{len(found)}`). In each draw one of them is tested on, whole; in another, "
        "`forest`, `forest_mouse` and `text` learned from what readers said; "
        "readings are drawn from the rest. So no label of these readers is behind a model's label, but those of "
        "the other study, once. A small policy that writes such texts (`answers`) is trained on the labels to the "
        "first order (`ifllm_hub/align/first_order`), for as many steps as reproduce most labels of one half of a "
        f"source when trained on the other half; with fewer than {LEAST} labels, for one step. The table has the share "
        "of unseen pairs on which it prefers the answer of higher utility. Intervals are 95 %, Student's t over draws; "
        "draws share readings, so that they are too narrow for another world of readers."
    )
    names = list(WHAT)
    yield markdown_table(
        ("trained on", *(f"{size:,} readings" for size in sizes)),
        (
            (f"`{name}`: {WHAT[name]}", *(interval(by_draw(found, name, size), ".3f") for size in sizes))
            for name in names
        ),
    )
    yield "\n" + paragraph("Accuracy beyond that of explicit feedback by 2 % of the same readers, draw by draw:")
    yield markdown_table(
        ("trained on", *(f"{size:,} readings" for size in sizes)),
        (
            (
                f"`{name}`",
                *(interval(by_draw(found, name, size) - by_draw(found, "explicit_2", size), "+.3f") for size in sizes),
            )
            for name in names
            if name not in ("truth", "explicit_2")
        ),
    )
    yield "\n" + paragraph(reading_of(found, sizes))
    yield f"![Accuracy on unseen pairs against the number of readings]({picture})\n"
    yield "## What labels were worth, and what was predicted\n"
    yield paragraph(
        "Of 100 labels of a source, how many explicit ones they were worth, which is also the percentage of readers "
        "whose explicit feedback is worth as much: predicted as 100 (1 - 2e)², with e the share that is not what the "
        "reader said (`ifllm_hub/dataset/label_worth.py`); by the truth, as that with e the share that is not true, "
        "over the same of explicit labels; and measured, as the number of explicit labels with which the policy gets "
        "as far, read off the mean curve of explicit labels, whose own error is not in the intervals. The curve begins "
        f"at 1 label and ends at {max(sizes):,}, and so does what is read off it."
    )
    shown = [size for size in sizes if size >= LEAST]
    yield markdown_table(
        (
            "label source",
            ">what the reader said",
            ">true",
            ">predicted",
            ">by the truth",
            *(f"measured at {size:,}" for size in shown),
        ),
        (
            (
                f"`{name}`",
                f"{shares(found, 'said', name).mean():.3f}",
                f"{shares(found, 'right', name).mean():.3f}",
                f"{100 * clean(found, 'said', name).mean():.0f}",
                f"{100 * (clean(found, 'right', name) / clean(found, 'right', 'explicit')).mean():.0f}",
                *(measured(found, name, size) for size in shown),
            )
            for name in IMPLICIT
        ),
    )
    yield "\n" + paragraph(
        "The prediction takes what readers say for what is true. Readers who err hide how good a label is: of labels "
        "that err independently of them, it counts (1 - 2x)⁴ of the worth by the truth, x being the share of explicit "
        f"labels that are wrong; that is {clean(found, 'right', 'explicit').mean() ** 2:.2f} here."
    )


def reading_of(found: list[Draw], sizes: tuple[int, ...]) -> str:
    """Where each source that takes no feedback of these readers is told from what takes some, or takes no reading."""
    parts = []
    for other, what in (("explicit_2", "explicit feedback by 2 % of readers"), (STUDY, f"`{STUDY}`")):
        told = [f"`{name}` {ahead(found, name, other, sizes)}" for name in (*IMPLICIT, BOTH)]
        parts.append(f"Beyond {what}, with an interval that lies above 0: {'; '.join(told)}.")
    return " ".join(parts) + " Intervals are not adjusted for their number."


def ahead(found: list[Draw], name: str, other: str, sizes: tuple[int, ...]) -> str:
    above = [size for size in sizes if ends(by_draw(found, name, size) - by_draw(found, other, size))[1] > 0]
    return f"at {', '.join(f'{size:,}' for size in above)}" if above else "nowhere"


def by_draw(found: list[Draw], name: str, size: int) -> np.ndarray:
    return np.array([one.accuracy[name, size] for one in found])


def shares(found: list[Draw], what: str, name: str) -> np.ndarray:
    """(draws,) of a source's labels: `right` or `said`, see `Draw`."""
    return np.array([getattr(one, what)[name] for one in found])


def clean(found: list[Draw], what: str, name: str) -> np.ndarray:
    """(draws,) (1 - 2e)²."""
    return (2 * shares(found, what, name) - 1) ** 2


def measured(found: list[Draw], name: str, size: int) -> str:
    """In explicit labels, for 100 of its own."""
    numbers, curve = explicit_curve(found)
    worth, low, high = (
        f"{100 / size * np.exp(np.interp(end, curve, np.log(numbers))):.0f}" for end in ends(by_draw(found, name, size))
    )
    return worth if len(found) < 2 else f"{worth} [{low}, {high}]"


def draw(found: list[Draw], sizes: tuple[int, ...], file: Path) -> None:
    """Accuracy by readings, a line a source."""
    with styled((6.4, 4.2)) as (figure, axes):
        colors = dict(zip(("explicit", "explicit_2", "forest", "forest_mouse", "text", "longer"), SERIES, strict=True))
        for name in WHAT:
            values = np.array([by_draw(found, name, size) for size in sizes])
            line = "--" if name in ("truth", STUDY, BOTH) else "-"
            axes.plot(sizes, values.mean(axis=1), line, marker="o", markersize=3, color=colors.get(name), label=name)
        axes.axhline(0.5, color=MUTED, linewidth=0.7)
        axes.set(xscale="log", xlabel="readings of two answers", ylabel="share of unseen pairs that are right")
        legend_below(figure, axes, 5)
        write_svg(file, figure)


if __name__ == "__main__":
    main()
