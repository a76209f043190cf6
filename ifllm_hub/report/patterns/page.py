"""A dataset -> patterns.html: how its answers were read, in figures, tables and single readings."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.measures import CELL
from ifllm_hub.files import make_folder, without_nan, write_atomically
from ifllm_hub.pages.web_page import csp_source, page_template
from ifllm_hub.patterns.measures import BY_NAME, MEASURES
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.patterns.study import Patterns, find_patterns
from ifllm_hub.patterns.summary import MEASURES_FILE, write_measures
from ifllm_hub.patterns.variation.groups import Groups
from ifllm_hub.patterns.variation.stability import CLEAR
from ifllm_hub.patterns.variation.variance import LEVELS
from ifllm_hub.report.patterns import pictures, words
from ifllm_hub.report.patterns.findings import findings
from ifllm_hub.report.patterns.markdown import FIGURES, patterns_markdown
from ifllm_hub.report.reading import Strip, dwell_by_cell, legend, strip
from ifllm_hub.report.replay import write_reading
from ifllm_hub.terms import Advance

PAGE_FILE, MARKDOWN, DOCUMENT, REPLAYS = "patterns.html", "patterns.md", "patterns.json", "replays"
_PAGES = Path(__file__).parents[1] / "pages"
_RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Medoid:
    """A reading that stands for a part of all paths: over its text, and the replays of it and its like."""

    name: str
    modality: str
    n: int
    workers: int
    strip: Strip
    questions: list[int]


def write_patterns(
    dataset: str | Path, out: Path, revision: str | None = None, advance: Advance = lambda share: None
) -> tuple[Path, Patterns]:
    """Write how a dataset was read: the page, its numbers as Markdown and as JSON, and all measures as CSV.

    The same dataset gives the same bytes. `patterns.html` loads nothing; it links to replays of the readings it shows.

    Args:
        dataset: a folder or Hub repo with trajectories.
        out: the folder to write into.
        advance: called with the share done (0-1).

    Returns:
        The path of the page, and what it shows.

    Raises:
        IfllmError: the dataset cannot be read, has no trajectories or no readings, or the folder cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> from ifllm_hub.report.patterns.page import write_patterns
        >>> page, patterns = write_patterns("ifllm", Path("patterns"))
        >>> page.name, patterns.origin, patterns.questions
        ('patterns.html', 'simulated', 52)
    """
    make_folder(out)
    patterns, readings, table = find_patterns(dataset, revision, lambda share: advance(0.9 * share))
    write_measures(table, out)
    chosen = next((one for one in patterns.groups if one.modality == "mouse"), None)
    medoids = _medoids(chosen, readings) if chosen else []
    _write_replays(dataset, revision, medoids, out / REPLAYS)
    said = findings(patterns)
    document = {**_rounded(without_nan(asdict(patterns))), "findings": said}
    write_atomically(out / DOCUMENT, json.dumps(document, indent=1) + "\n")
    figures = pictures.all_pictures(patterns)
    write_atomically(out / MARKDOWN, patterns_markdown(patterns, said))
    for name, key in FIGURES.items():
        if figures[key]:
            write_atomically(out / name, figures[key][0].svg)
    path = out / PAGE_FILE
    write_atomically(path, page(patterns, figures, medoids, said, str(dataset)), private=True)
    advance(1.0)
    return path, patterns


def page(patterns: Patterns, figures: dict[str, Any], medoids: list[Medoid], said: list[str], dataset: str) -> str:
    """The page as HTML.

    Args:
        figures: from `pictures.all_pictures`.
        medoids: the readings that are shown.
        said: the findings.
        dataset: its folder or repo, for the command at the end.
    """
    from markupsafe import Markup

    script = (_PAGES / "sort.js").read_text(encoding="utf-8")
    by_p = sorted(patterns.effects, key=lambda effect: (effect.p, effect.family, effect.name))
    bullets = [effect for effect in patterns.effects if effect.family == "bullets"]
    return page_template(_PAGES / "patterns.html.jinja").render(
        patterns={**vars(patterns), "findings": said},
        words=words,
        alpha=words.ALPHA,
        measures=MEASURES,
        titles={name: measure.title for name, measure in BY_NAME.items()},
        units={name: measure.unit for name, measure in BY_NAME.items()},
        levels=LEVELS,
        clear=CLEAR,
        cell=CELL,
        effects=patterns.effects,
        surviving=[effect for effect in by_p if effect.holm <= words.ALPHA],
        explained=sum(effect.holm <= words.ALPHA and bool(effect.caveat) for effect in by_p),
        others=[effect for effect in by_p if effect.holm > words.ALPHA],
        family=_by_family(patterns),
        bullets_outcomes=[effect for effect in bullets if effect.measure not in BY_NAME],
        bullets_reading=[effect for effect in bullets if effect.measure in BY_NAME],
        **figures,
        medoids=medoids,
        legend=legend(),
        replays=REPLAYS,
        measures_file=MEASURES_FILE,
        recipe_r=(_RECIPES / "mixed.R").read_text(encoding="utf-8").strip(),
        recipe_python=(_RECIPES / "mixed.py").read_text(encoding="utf-8").strip(),
        command=f"ifllm patterns {dataset} --out DIR",
        script=Markup(script),
        script_hash=csp_source(script),
    )


def _rounded(value: Any) -> Any:
    """Numbers to ten digits: the last ones depend on how many threads a machine adds with."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _by_family(patterns: Patterns) -> Callable[[str], list[Any]]:
    return lambda family: [effect for effect in patterns.effects if effect.family == family]


def _medoids(groups: Groups, readings: Readings) -> list[Medoid]:
    """A reading for each part, over its text; the texts are those of the dataset's workers."""
    names = [f"group {number + 1}" if groups.clear else f"quarter {number + 1}" for number in range(len(groups.parts))]
    found = []
    for name, part in zip(names, groups.parts, strict=True):
        question_id, side = part.medoids[0]
        here = {"question_id": question_id, "side": side}
        answer = readings.answers.filter(**here).row(0, named=True)
        ticks = readings.ticks[groups.modality].filter(**here)
        shown = strip(answer["text"], dwell_by_cell(ticks, len(answer["text"])), groups.modality)
        questions = sorted({one for one, _ in part.medoids})
        found.append(Medoid(name, groups.modality, part.n, part.workers, shown, questions))
    return found


def _write_replays(dataset: str | Path, revision: str | None, medoids: list[Medoid], folder: Path) -> None:
    """Write the replays of these readings, and delete those of an earlier page."""
    ids = sorted({question_id for medoid in medoids for question_id in medoid.questions})
    make_folder(folder)
    pages = []
    if ids:
        questions = {
            row["question_id"]: row
            for mode in ("pairwise", "pointwise")
            for row in load_config(dataset, mode, revision, question_ids=ids).iter_rows(named=True)
        }
        for row in load_config(dataset, "trajectories", revision, question_ids=ids).iter_rows(named=True):
            question_id = row["question_id"]
            pages.append(write_reading(questions[question_id], row, folder / f"{question_id}.html"))
    for stale in set(folder.glob("*.html")).difference(pages):
        stale.unlink()
