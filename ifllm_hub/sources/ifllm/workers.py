"""The workers of a release, from its uncleaned tables: who is in it, and who consented."""

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import TABLES, Release


def known_workers(release: Release) -> frozenset[str]:
    """The ids of everybody in the release's tables or behavior folders.

    Raises:
        IfllmError: a table cannot be read.
    """
    tables = (read_table(release, name)["user_id"].drop_nulls() for name in TABLES)
    return frozenset(task.worker_id for task in release.tasks).union(*tables)


def consenting_workers(release: Release) -> frozenset[str]:
    """Who consented, read from the table independently of the cleaning, so that a bug there cannot let others in."""
    yes = (pl.col("consent") == "1").fill_null(False).all()
    return frozenset(
        read_table(release, "record_info_table.csv").group_by("user_id").agg(yes=yes).filter("yes")["user_id"]
    )


def read_table(release: Release, name: str) -> pl.DataFrame:
    """A table of the release, every column as text.

    Raises:
        IfllmError: it cannot be read.
    """
    try:
        return pl.read_csv(release.root / name, infer_schema=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{release.root / name}: cannot be read ({error}). Unpack the release again.") from error
