"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DatasetArgument = Annotated[str, typer.Argument(help="A dataset folder or Hub repo id.", show_default=False)]
FolderArgument = Annotated[Path, typer.Argument(help="A dataset folder.", show_default=False)]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make a new repo private.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace all of a repo that holds something else.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Fold and forest seeds; claims want 20.")]
AllWorkersOption = Annotated[bool, typer.Option(help="Keep the workers on the authors' exclusion list.")]
