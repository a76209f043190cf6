"""Options of a command from the dataclass that its function takes, so that no setting is declared twice.

The dataclass is imported only when the command runs, so that `ifllm --help` waits for nothing heavy.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terminal import at_home

Arguments = TypeVar("Arguments")
# The context settings of a command whose words `read_settings` reads.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def read_settings(context: typer.Context, arguments: type[Arguments], panels: Mapping[str, str]) -> Arguments:
    """Read the words of a command into a dataclass, and the YAML file of `--config` whose values they override.

    Args:
        context: of a command with the settings `PASSED_ON`.
        arguments: a dataclass whose fields have a `help` in their metadata, and no mutable defaults.
        panels: the headings in the help, each with the names of its fields, separated by spaces.

    Raises:
        IfllmError: the file cannot be read, or has a name that is not a setting.
    """
    settings, hints = _settings(arguments), get_type_hints(arguments)
    panel = {name: title for title, names in panels.items() for name in names.split()}
    read: list[Arguments] = []

    def command(config: Path | None = None, **values: Any) -> None:
        read.append(arguments(**{name: at_home(value) for name, value in values.items()}))

    # First the settings in no panel, then those of the panels in order.
    names = [*(name for name in settings if name not in panel), *panel]
    parameters = [
        _parameter(name, _default(settings[name]), hints[name], _option(settings[name], panel.get(name)))
        for name in names
    ]
    parameters.append(_parameter("config", None, Path | None, _config_option(arguments)))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=context.command.help)(command)
    app(args=context.args, prog_name=context.command_path, standalone_mode=False)
    if not read:  # --help
        raise typer.Exit
    return read[0]


def _settings(arguments: type[Any]) -> "dict[str, Field[Any]]":
    return {one.name: one for one in fields(arguments)}


def _parameter(name: str, default: Any, type_: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[type_, option])


def _default(one: "Field[Any]") -> Any:
    return inspect.Parameter.empty if one.default is MISSING else one.default


def _option(one: "Field[Any]", panel: str | None) -> Any:
    # No `--no-...` form for flags that are off by default.
    names = [f"--{one.name.replace('_', '-')}"] if one.default is False else []
    return typer.Option(*names, help=one.metadata["help"], rich_help_panel=panel)


def _config_option(arguments: type[Any]) -> Any:
    def read(context: typer.Context, file: Path | None) -> None:
        import yaml

        if file is None:
            return
        try:
            values = dict(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise IfllmError(
                f"{file}: cannot be read as YAML ({first_line(error)}). Correct it, or see --help."
            ) from error
        if unknown := sorted(map(str, values.keys() - _settings(arguments).keys())):
            raise IfllmError(f"{file}: {unknown[0]} is not a setting of this command. Correct it, or see --help.")
        context.default_map = values

    return typer.Option(help="YAML file of these settings; options override it.", callback=read, is_eager=True)
