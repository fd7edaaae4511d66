"""The manual page her2d(1), from the Typer app: `python -m tools.docs.manual` prints it.

click-man renders the commands of Click. Typer's no longer derive from Click's, and it finds none.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typer.main import get_command

from her2d import __version__
from her2d.cli import app
from tools.docs.commands import (
    Command,
    choices_of,
    commands,
    default_of,
    names_of,
    options_and_arguments,
)
from tools.docs.exit_codes import MEANINGS

_FILES = {
    "/etc/her2d/config.toml": "The settings of the service, each key explained.",
    "/etc/her2d/secrets.env": "The secrets of the service, one variable a line; systemd reads it.",
    "/var/lib/her2d": "The database, heatmaps, backups and bundles of the service.",
    "/srv/her2d/inbox": "The inbox of a new installation.",
}
_ENVIRONMENT = {
    "HER2D_CONFIG": "The settings file.",
    "HER2D_SECTION__KEY": "One setting, such as HER2D_OPS__PORT for port in [ops]. It comes before"
    " the settings file.",
}


def manual() -> str:
    """The page, in the macros of man(7)."""
    root = Command(("her2d",), get_command(app))
    return "\n".join(
        [
            f'.TH HER2D 1 "" "her2d {_text(__version__)}" "User Commands"',
            ".nh\n.ad l",
            ".SH NAME\nher2d \\- read HER2 status from gastric\\-cancer H&E whole\\-slide images",
            ".SH SYNOPSIS\n.B her2d\n.RI [ OPTION ]\n.I COMMAND\n.RI [ OPTION "
            "]...\n.RI [ ARGUMENT ]...",
            ".SH DESCRIPTION",
            *_paragraphs(root.help),
            ".PP\nEach command explains itself with\n.BR \\-\\-help .",
            ".SH OPTIONS",
            *_parameters(root),
            ".SH COMMANDS",
            *(line for command in commands() for line in _command(command)),
            ".SH EXIT STATUS",
            *_list(MEANINGS),
            ".SH ENVIRONMENT",
            *_list(_ENVIRONMENT),
            ".SH FILES",
            *_list(_FILES),
            ".SH SEE ALSO\n.BR systemctl (1),\n.BR journalctl (1)\n",
        ]
    )


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_text(command.name)}"
    yield from _paragraphs(command.help)
    yield from _parameters(command)


def _parameters(command: Command) -> Iterator[str]:
    for parameter in options_and_arguments(command):
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in names_of(parameter))
        yield f".TP\n{names}{_values(command, parameter)}"
        default = default_of(parameter)
        yield _text(f"{parameter.help or ''} Default: {default}." if default else parameter.help)


def _values(command: Command, parameter: Any) -> str:
    """What follows an option's name."""
    choices = choices_of(command, parameter)
    if parameter.param_type_name != "option" or not choices:
        return ""
    return " " + "|\\:".join(f"\\fI{_text(choice)}\\fR" for choice in choices)


def _list(entries: Mapping[str, str]) -> Iterator[str]:
    for name, text in entries.items():
        yield f".TP\n.B {_text(name)}\n{_text(text)}"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        yield f".PP\n{_text(paragraph)}"


def _text(text: object) -> str:
    """Text that roff prints as it is; a hyphen stays one that can be copied to a shell."""
    words = " ".join(str(text or "").replace("`", "").split())
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.stdout.write(manual())
