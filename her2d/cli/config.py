"""`her2d config show|check|example`: what her2d would run with, and a file to begin from."""

from pathlib import Path

import typer

from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.settings import PACKAGE_DATA, Settings, find_config

app = typer.Typer(help="The settings in force.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print every setting as it is in force: file, environment and defaults together."""
    settings = settings_of(config)
    if as_json:
        typer.echo(settings.model_dump_json(indent=2))
        return
    typer.echo(f"# {_source(config)}, and HER2D_* variables")
    for section in Settings.model_fields:
        typer.echo(f"\n[{section}]")
        for key, value in getattr(settings, section).model_dump(mode="json").items():
            typer.echo(f"{key} = {value!r}" if value is not None else f"# {key} is not set")


@app.command("check")
def check(config: ConfigOption = None) -> None:
    """Say whether the settings are well formed; exit 1 with the key's name where they are not."""
    settings_of(config)
    typer.echo(
        f"The settings of {_source(config)} are well formed; her2d doctor checks what they name."
    )


@app.command("example")
def example() -> None:
    """Print a config.toml that explains every setting and states its default."""
    typer.echo((PACKAGE_DATA / "config.toml").read_text(), nl=False)


def _source(config: Path | None) -> str:
    found = find_config(config)
    return str(found) if found is not None else "the defaults"
