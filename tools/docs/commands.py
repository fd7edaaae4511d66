"""The command line, read from the Typer app."""

import inspect
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from her2d.cli import app
from tools.docs.markdown import block, code, introduction, page, table

_EXAMPLES = Path(__file__).with_name("command_examples.toml")


@dataclass(frozen=True, slots=True)
class Command:
    """One command or group; `words` are what is typed, such as `("her2d", "queue", "ls")`."""

    words: tuple[str, ...]
    click: Any

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def is_group(self) -> bool:
        return bool(getattr(self.click, "commands", {}))

    @property
    def help(self) -> str:
        return inspect.cleandoc(self.click.help or "")


def commands() -> Iterator[Command]:
    """Every command and group below `her2d`, in the order of `--help`."""
    yield from _below(("her2d",), get_command(app))


def examples() -> dict[str, str]:
    """Command -> lines of shell that show it."""
    return {name: str(text) for name, text in tomllib.loads(_EXAMPLES.read_text()).items()}


def command_line_page() -> str:
    """The page `reference/command-line.md`."""
    shown = examples()
    summary = table(
        ["command", "what it does"],
        ([f"[{code(c.name)}](#{'-'.join(c.words)})", _first_sentence(c.help)] for c in _leaves()),
    )
    parts = [_section(command, shown.get(command.name)) for command in commands()]
    return page("Command line", introduction("command-line"), summary, *parts)


def _leaves() -> Iterator[Command]:
    return (c for c in commands() if not c.is_group or c.click.invoke_without_command)


def _below(words: tuple[str, ...], group: Any) -> Iterator[Command]:
    for name, click in group.commands.items():
        command = Command((*words, name), click)
        yield command
        if command.is_group:
            yield from _below(command.words, click)


def _section(command: Command, example: str | None) -> str:
    depth = "##" if len(command.words) == 2 else "###"
    lines = [f"{depth} {command.name} {{ #{'-'.join(command.words)} }}", command.help]
    if example is not None:
        lines.append(block(example, "sh"))
    parameters = [p for p in command.click.params if p.name != "help"]
    if parameters:
        lines.append(
            table(
                ["parameter", "takes", "default", ""], [_parameter(command, p) for p in parameters]
            )
        )
    return "\n\n".join(lines)


def _parameter(command: Command, parameter: Any) -> list[str]:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [_metavar(parameter)]
    takes = "" if getattr(parameter, "is_flag", False) else _type(command, parameter)
    if parameter.multiple:
        takes += ", may be repeated"
    elif parameter.nargs == -1:
        takes += ", one or more"
    return [", ".join(map(code, names)), takes, _default(parameter), parameter.help or ""]


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _type(command: Command, parameter: Any) -> str:
    shown = str(parameter.display_type(typer.Context(command.click))).strip("<>")
    shown = shown.removeprefix("list[").removesuffix("]")
    return " ".join(map(code, shown.split("|"))) if "|" in shown else shown


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default in (None, False, ()) or callable(default):
        return ""
    return code(getattr(default, "value", default))


def _first_sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
