"""`her2d config show|check|reload|example`: print, check and reload the settings."""

from pathlib import Path
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.terminal import say
from her2d.settings import PACKAGE_DATA, Settings, find_config

_MOST_PID = 1 << 22  # PID_MAX_LIMIT, see proc(5)

app = typer.Typer(help="Print, check and reload the settings.", no_args_is_help=True)

# The daemon reloads between two passes over its inboxes, which a slow share prolongs.
_PATIENCE_S = 60.0


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


@app.command("reload")
def reload(
    pid: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST_PID, help="The daemon's process. Default: the one of the database."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Have the daemon read its settings again.

    Waits until it has. If the settings are refused, by the check of this command or by the daemon,
    the reason is printed, with exit code 1, and the daemon keeps those it has. systemctl reload
    runs this command.
    """
    from her2d.daemon.reload_channel import ReloadError, request_reload

    settings = settings_of(config)
    if pid is None and (pid := _running_daemon(settings)) is None:
        raise UserError(f"No daemon works on {settings.results.database}.")
    try:
        outcome = request_reload(pid, _PATIENCE_S)
    except ReloadError as error:
        raise UserError(str(error)) from error
    if outcome.refused is not None:
        raise UserError(f"The daemon keeps the settings it has. {outcome.refused}")
    say(f"The daemon read the settings from {_source(config)}.")
    if outcome.waiting:
        say(f"These apply when it is restarted: {', '.join(outcome.waiting)}.")


def _running_daemon(settings: Settings) -> int | None:
    from her2d.db.lock import running_daemon

    try:
        return running_daemon(settings.results.database)
    except OSError as error:
        raise UserError(
            f"The daemon of {settings.results.database} cannot be found: {error.strerror}."
            " Name its process with --pid."
        ) from error


@app.command("example")
def example() -> None:
    """Print an example config.toml.

    It explains every setting and contains its default.
    """
    say((PACKAGE_DATA / "config.toml").read_text(), nl=False)


def _source(config: Path | None) -> str:
    found = find_config(config)
    return str(found) if found is not None else "the defaults"
