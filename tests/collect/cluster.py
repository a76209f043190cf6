"""A PostgreSQL server of a test's own, thrown away after it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where Debian has them; they are in no PATH.
_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; None where there is none."""
    found = shutil.which("initdb")
    return Path(found).parent if found else next(reversed(_PROGRAMS), None)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, with PostgreSQL's defaults: a commit returns once it is on the disk."""
    with tempfile.TemporaryDirectory(prefix="ifllm-postgres-") as name:  # short, because a socket's path must be
        folder = Path(name)
        account: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres")
            account = ["runuser", "-u", "postgres", "--"]

        def run(program: str, *arguments: str) -> None:
            command = [*account, str(programs / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale")
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
