"""A group of commands that imports the module of a command when the command is used.

Importing all commands takes longer than most of them work. The help page of the group lists names
and summaries from a table, and imports none of them.
"""

import importlib
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from her2d.system.imports import importing_much


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is defined.

    Attributes:
        name: as it is typed.
        place: `module:name` of its function, or of the Typer app of a group.
        summary: the first line of its help page.
    """

    name: str
    place: str
    summary: str

    def load(self) -> Any:
        """Import the command, and return it as Typer runs it."""
        module, _, name = self.place.partition(":")
        with importing_much():
            found = getattr(importlib.import_module(module), name)
        app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name)(found)
        return get_group(app).commands[self.name]


class _Commands(MutableMapping[str, Any]):
    """Commands by name; each is imported when it is looked up."""

    def __init__(self, table: Iterable[LazyCommand]) -> None:
        self._unused = {command.name: command for command in table}
        self._loaded: dict[str, Any] = dict.fromkeys(self._unused)

    def __getitem__(self, name: str) -> Any:
        if self._loaded[name] is None:
            self._loaded[name] = self._unused.pop(name).load()
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


def lazy_group(table: tuple[LazyCommand, ...]) -> type[TyperGroup]:
    """Return the class of a group that has these commands, in this order."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands(table)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self.commands)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(command.name, command.summary) for command in table])

    return LazyGroup
