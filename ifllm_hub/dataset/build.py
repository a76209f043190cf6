"""Build a dataset: a source -> a folder laid out like the Hub repo (Parquet, card, manifest)."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import polars as pl

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.coarse import coarse
from ifllm_hub.dataset.layout import WHOLE, Shard
from ifllm_hub.dataset.manifest import COUNTED, MANIFEST, TIERS, Built, built_manifest, read_manifest, write_manifest
from ifllm_hub.dataset.privacy.consent import apply_consent, check_workers
from ifllm_hub.dataset.privacy.report import is_unreported, write_privacy_report
from ifllm_hub.dataset.schema import CALIBRATION
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.engines.run import Engine, run_shards
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.centering import center_by_worker
from ifllm_hub.features.extract import feature_rows
from ifllm_hub.features.viewport import with_viewport
from ifllm_hub.files import replacing_folder
from ifllm_hub.sources.ifllm.accounts import Accounts, balance, check_read, together
from ifllm_hub.sources.ifllm.archive import Release
from ifllm_hub.sources.ifllm.study import Study, read_study
from ifllm_hub.sources.source import Source, in_parts
from ifllm_hub.terms import MODALITIES, MODES, SIDES, Advance

Account = TypeVar("Account")

# Conversations in memory at a time; results do not depend on it.
CHUNK = 64


def build_dataset(
    release: Release,
    out: Path,
    chunk: int = CHUNK,
    advance: Advance | None = None,
    tier: str = "full",
    withdrawn: Collection[str] = (),
    report: bool = True,
    shards: int = 1,
    engine: Engine = "local",
    address: str | None = None,
) -> Built:
    """Build the configs of a tier, their privacy report and the card; `ifllm label` adds the preferences.

    Args:
        out: the folder to write; replaced as a whole when it is an earlier build.
        chunk: conversations in memory at a time.
        advance: called with the share done (0-1).
        tier: "full"; "public": without `trajectories`; or "coarse": with two rounded features in place of all.
        withdrawn: ids of workers to leave out; only their number is kept.
        report: write the privacy report and the card; False leaves them to `report_dataset`, before which the folder
            cannot be published.
        shards: files of each split of a config; a person is in one of them.
        engine: see `run_shards`, also for `address`; a cluster must see the release and `out` under the same paths.

    Returns:
        The manifest, as written to `out/manifest.json`.

    Raises:
        IfllmError: there is no such tier, the release is damaged, most of its lines cannot be read, no reading can be
            matched to an answer, the accounts do not balance, a worker without consent would be written, or `out`
            cannot be written.

    Examples:
        >>> from pathlib import Path
        >>> from ifllm_hub.dataset.build import build_dataset
        >>> from ifllm_hub.sources.ifllm.archive import open_release
        >>> manifest = build_dataset(open_release("simulated"), Path("built"), tier="public")
        >>> manifest["lines"]["rel"]["unaccounted"], sorted(path.name for path in Path("built/data").iterdir())
        (0, ['features', 'pairwise', 'pointwise'])
    """
    if tier not in TIERS:
        raise IfllmError(f"There is no tier '{tier}'. Choose one of: {', '.join(TIERS)}.")
    consented = apply_consent(read_study(release), withdrawn)
    with replacing_folder(out, MANIFEST) as folder:
        alone = shards == 1 and engine == "local"  # then progress is told from within the shard
        task = partial(_build_shard, consented.source, folder, tier, chunk, advance if alone else None)
        every = [Shard(number, shards) for number in range(shards)]
        built = run_shards(task, every, engine, address, advance=None if alone else advance)
        questions, accounts = pl.concat([part for part, _ in built]), together([account for _, account in built])
        check_read(accounts, release.root)
        accounts.quarantined().write_csv(folder / "quarantine.csv")
        balanced = balance(accounts, release.root)
        manifest = built_manifest(tier, consented.left_out, release, consented.source.counts, questions, balanced)
        write_manifest(folder, manifest)
        check_workers(folder, consented.source.workers)
        if report:
            _write_report(folder, release, manifest)
    return manifest


def _build_shard(
    source: Study, folder: Path, tier: str, chunk: int, advance: Advance | None, shard: Shard
) -> tuple[pl.DataFrame, Accounts]:
    """`COUNTED` of the questions, and what became of all that came in."""
    questions, accounts = [pl.DataFrame(schema=COUNTED)], []
    for part in write_parts(source, folder, tier, chunk, shard, advance):
        questions.append(part.questions.select(*COUNTED))
        accounts.append(part.account)
    return pl.concat(questions), together(accounts)


def report_dataset(folder: Path, release: Release) -> None:
    """Write the privacy report and the card of a folder that was built without: the same bytes as if built with them.

    Args:
        release: that the folder was built from.

    Raises:
        IfllmError: the folder has them already, was not built from this release, or cannot be written.
    """
    manifest = read_manifest(folder)
    if "release_sha256" not in manifest or manifest["release_sha256"] != release.digest():
        raise IfllmError(f"{folder}: was not built from {release.root}. Give the release that it was built from.")
    if not is_unreported(folder):
        raise IfllmError(f"{folder}: has a privacy report or a card already. `ifllm build` makes both anew.")
    _write_report(folder, release, manifest)


def _write_report(folder: Path, release: Release, manifest: Built) -> None:
    write_privacy_report(folder, release, manifest)
    write_card(folder)


@dataclass(frozen=True)
class Part(Generic[Account]):
    """What was written of some people.

    Attributes:
        questions: see `Recorded`, with `has_mouse` and `has_gaze`.
        features: rows of the config `features`, with `split`.
        account: see `Recorded`.
    """

    questions: pl.DataFrame
    features: pl.DataFrame
    account: Account


def write_parts(
    source: Source[Account],
    folder: Path,
    tier: str = "full",
    chunk: int = CHUNK,
    shard: Shard = WHOLE,
    advance: Advance | None = None,
) -> Iterator[Part[Account]]:
    """Write the configs of a tier, from any source, a part of its people at a time.

    The files depend on neither the parts nor other shards, and are whole once the last part has been yielded.

    Args:
        folder: to write `data/` into.
        chunk: about how many conversations to hold in memory at a time.
        shard: write only the people of this one.

    Raises:
        IfllmError: a recording is damaged.
    """
    with ExitStack() as stack:
        writers = {
            config: stack.enter_context(closing(ConfigWriter(folder / "data" / config, config, shard)))
            for config in TIERS[tier]
        }
        ours = {one: size for one, size in source.people.items() if shard.has(one)}
        parts = in_parts(ours, chunk)
        for done, people in enumerate(parts, start=1):
            recorded = source.read(people)
            splits = recorded.questions.select("question_id", "split")
            trajectories = _complete(recorded.trajectories).join(splits, on="question_id", maintain_order="left")
            features = center_by_worker(feature_rows(trajectories))
            features = features.join(splits, on="question_id", maintain_order="left")
            questions = _with_has_behavior(recorded.questions, features)
            rows: dict[str, pl.DataFrame] = {
                "trajectories": trajectories.filter(pl.any_horizontal(pl.col("t", "viewport_t").list.len() > 0)),
                "features": features,
                "coarse": coarse(features.filter(mode="pairwise")),
                **{mode: _with_messages(questions.filter(mode=mode), mode) for mode in MODES},
            }
            for config, writer in writers.items():
                writer.write(rows[config])
            if advance:
                advance(done / len(parts))
            yield Part(questions, features, recorded.account)


def _complete(trajectories: pl.DataFrame) -> pl.DataFrame:
    """With the columns that not every source has."""
    none = {name: pl.lit(None, pl.Float32) for name in CALIBRATION if name not in trajectories.columns}
    return with_viewport(trajectories.with_columns(**none))


def _with_has_behavior(questions: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Add `has_mouse` and `has_gaze`: whether a modality was ever on an answer's text."""
    flags = {f"has_{modality}": pl.col(f"{modality}_dwell_left").is_not_null() for modality in MODALITIES}
    return questions.join(features.select("question_id", **flags), on="question_id", maintain_order="left")


def _with_messages(questions: pl.DataFrame, mode: str) -> pl.DataFrame:
    """Rows of `pairwise` or `pointwise`, with the chat that each LLM had seen: the history of its own side.

    Args:
        questions: of that mode, with both sides' columns and the turns of a conversation in order; conversations may be
            interleaved, as with two tabs.
    """
    earlier = pl.int_range(pl.len()).over("conversation_id")
    messages = {}
    for side in SIDES if mode == "pairwise" else ("left",):
        turn = pl.concat_list(_message("user", "query"), _message("assistant", f"response_{side}"))
        # Texts are not copied: lists in Polars point to them.
        whole = turn.list.explode(empty_as_null=False).over("conversation_id", mapping_strategy="join")
        messages[f"messages_{side}"] = whole.list.head(2 * earlier + 1)
    if "context" in questions.columns:
        messages = {name: pl.col("context") for name in messages}
    dated = questions.with_columns(asked_at=pl.col("asked_at").cast(pl.Datetime("ms", "UTC")), **messages)
    if mode == "pairwise":
        return dated
    return dated.rename({f"{name}_left": name for name in ("messages", "response", "model", "rating")})


def _message(role: str, text: str) -> pl.Expr:
    return pl.struct(role=pl.lit(role), content=text)
