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
    if parameters := options_and_arguments(command):
        lines.append(
            table(
                ["parameter", "takes", "default", ""], [_parameter(command, p) for p in parameters]
            )
        )
    return "\n\n".join(lines)


def options_and_arguments(command: Command) -> list[Any]:
    """What the command takes, without --help."""
    return [p for p in command.click.params if p.name != "help"]


def names_of(parameter: Any) -> list[str]:
    """What is typed: `--json`, or the name of an argument."""
    if parameter.param_type_name == "option":
        return [*parameter.opts, *parameter.secondary_opts]
    return [str(parameter.metavar or parameter.name.upper())]


def choices_of(command: Command, parameter: Any) -> list[str]:
    """The values that it takes, or one word for their kind, or nothing for a flag."""
    if getattr(parameter, "is_flag", False):
        return []
    shown = str(parameter.display_type(typer.Context(command.click))).strip("<>")
    return shown.removeprefix("list[").removesuffix("]").split("|")


def default_of(parameter: Any) -> str:
    """Its default as it is typed; empty where there is none that could be."""
    default = parameter.default
    if parameter.required or default in (None, False, ()) or callable(default):
        return ""
    return str(getattr(default, "value", default))


def _parameter(command: Command, parameter: Any) -> list[str]:
    choices = choices_of(command, parameter)
    kind = " ".join(map(code, choices)) if len(choices) > 1 else "".join(choices)
    if parameter.multiple:
        kind += ", may be repeated"
    elif parameter.nargs == -1:
        kind += ", one or more"
    default = default_of(parameter)
    shown = "required" if parameter.required else code(default) if default else ""
    return [", ".join(map(code, names_of(parameter))), kind, shown, parameter.help or ""]


def _first_sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())
