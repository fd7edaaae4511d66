"""`her2d config show|check|example`: print and check the settings, and print an example."""

from pathlib import Path

import typer

from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.terminal import say
from her2d.settings import PACKAGE_DATA, Settings, find_config

app = typer.Typer(help="Print and check the settings.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print all settings that are in force.

    From the file, the environment and the defaults.
    """
    settings = settings_of(config)
    if as_json:
        say(settings.model_dump_json(indent=2))
        return
    say(f"# {_source(config)}, and HER2D_* variables")
    for section in Settings.model_fields:
        say(f"\n[{section}]")
        for key, value in getattr(settings, section).model_dump(mode="json").items():
            say(f"{key} = {value!r}" if value is not None else f"# {key} is not set")


@app.command("check")
def check(config: ConfigOption = None) -> None:
    """Check that the settings are well formed.

    If one is not, its key is printed, with exit code 1.
    """
    settings_of(config)
    say(
        f"The settings from {_source(config)} are well formed."
        " To check the files and services that they name, run her2d doctor."
    )


@app.command("example")
def example() -> None:
    """Print an example config.toml.

    It explains every setting and contains its default.
    """
    say((PACKAGE_DATA / "config.toml").read_text(), nl=False)


def _source(config: Path | None) -> str:
    found = find_config(config)
    return str(found) if found is not None else "the defaults"
