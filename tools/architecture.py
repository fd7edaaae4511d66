"""`python -m tools.architecture`: count the rooms of her2d and the imports between them.

A room is a package or module directly under `her2d`. An arrow is an import from one room into
another, counted once for each pair of rooms. Imports by `her2d/__init__.py` and `her2d/__main__.py`
do not count, because those two are the package's face.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grimp
import typer

ALLOWED_LOOSE = frozenset({"__init__", "__main__", "api", "errors", "method", "settings"})
"""Modules that may lie directly under `her2d`, beside its packages."""

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Arrow:
    """All imports from one room into another.

    Attributes:
        importer, imported: names of the rooms.
        imports: each import as (importing module, imported module).
    """

    importer: str
    imported: str
    imports: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The rooms of a package and the arrows between them.

    Attributes:
        rooms: names without the package's, sorted.
        floors: number of rooms in the longest chain of imports; rooms that import each other in a
            cycle count as one.
        arrows: sorted by importer and imported room.
        upward: the arrows against the order of the layers; without layers, those in cycles.
        loose: modules directly under the package that are not in `ALLOWED_LOOSE`.
    """

    rooms: tuple[str, ...]
    floors: int
    arrows: tuple[Arrow, ...]
    upward: tuple[Arrow, ...]
    loose: tuple[str, ...]


def examine(
    graph: grimp.ImportGraph, package: str, layers: Sequence[frozenset[str]] = ()
) -> Architecture:
    """Count rooms, floors and arrows.

    Args:
        graph: the imports of `package`.
        package: name of the package, such as `her2d`.
        layers: names of the rooms in each layer, highest first; empty if there is no order.
    """
    children = {_last_name(child) for child in graph.find_children(package)}
    rooms = tuple(sorted(children - {"__main__"}))
    arrows = tuple(_arrows(graph, package, rooms))
    cycles = _cycles(rooms, arrows)
    in_order = {room: number for number, layer in enumerate(layers) for room in layer}
    upward = tuple(
        arrow
        for arrow in arrows
        if (_is_upward(arrow, in_order) if layers else arrow.imported in cycles[arrow.importer])
    )
    modules = {child for child in children if not graph.find_children(f"{package}.{child}")}
    loose = tuple(sorted(modules - ALLOWED_LOOSE))
    return Architecture(rooms, _floors(cycles, arrows), arrows, upward, loose)


def layers_of(pyproject: Path, package: str) -> tuple[frozenset[str], ...]:
    """Read the rooms' order from import-linter's `layers` contract.

    Args:
        pyproject: path of `pyproject.toml`.
        package: only contracts about its rooms count.

    Returns:
        The rooms in each layer, highest first; empty if there is no such contract.

    Raises:
        OSError: the file cannot be read.
        tomllib.TOMLDecodeError: the file is not valid TOML.
    """
    settings = tomllib.loads(pyproject.read_text()).get("tool", {}).get("importlinter", {})
    for contract in settings.get("contracts", ()):
        if contract.get("type") == "layers":
            layers = tuple(_layer(line, contract, package) for line in contract["layers"])
            if any(layers):
                return layers
    return ()


def _layer(line: str, contract: Mapping[str, Any], package: str) -> frozenset[str]:
    """Parse one layer such as `a | b`, `a : b` or `(a)`."""
    names = {name.strip(" ()") for part in line.split("|") for name in part.split(":")}
    if package in contract.get("containers", ()):
        return frozenset(names)
    prefix = f"{package}."
    return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def _arrows(graph: grimp.ImportGraph, package: str, rooms: Iterable[str]) -> Iterator[Arrow]:
    inside = {room: _modules(graph, f"{package}.{room}") for room in rooms}
    for importer, modules in inside.items():
        outside = [(a, b) for a in modules for b in graph.find_modules_directly_imported_by(a)]
        for imported, others in inside.items():
            imports = sorted((a, b) for a, b in outside if b in others)
            if imported != importer and imports:
                yield Arrow(importer, imported, tuple(imports))


def _modules(graph: grimp.ImportGraph, room: str) -> set[str]:
    return {room, *graph.find_descendants(room)}


def _cycles(rooms: Iterable[str], arrows: Sequence[Arrow]) -> dict[str, frozenset[str]]:
    """Return for each room the rooms that it reaches and that reach it, itself included."""
    reached = {room: _reached_from(room, arrows) for room in rooms}
    return {
        room: frozenset({room, *(other for other in found if room in reached[other])})
        for room, found in reached.items()
    }


def _reached_from(room: str, arrows: Sequence[Arrow]) -> set[str]:
    found: set[str] = set()
    new = {room}
    while new:
        new = {arrow.imported for arrow in arrows if arrow.importer in new} - found
        found |= new
    return found


def _floors(cycles: Mapping[str, frozenset[str]], arrows: Sequence[Arrow]) -> int:
    """Return the length of the longest chain, in which each cycle counts as one room."""
    below = {
        cycle: {cycles[a.imported] for a in arrows if a.importer in cycle} - {cycle}
        for cycle in cycles.values()
    }
    heights: dict[frozenset[str], int] = {}

    def height(cycle: frozenset[str]) -> int:
        if cycle not in heights:
            heights[cycle] = 1 + max((height(other) for other in below[cycle]), default=0)
        return heights[cycle]

    return max((height(cycle) for cycle in below), default=0)


def _is_upward(arrow: Arrow, in_order: Mapping[str, int]) -> bool:
    importer, imported = in_order.get(arrow.importer), in_order.get(arrow.imported)
    return importer is not None and imported is not None and importer > imported


def _last_name(module: str) -> str:
    return module.rpartition(".")[2]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    arrows: Annotated[
        bool, typer.Option("--arrows", help="Also print each arrow with the modules that import.")
    ] = False,
) -> None:
    """Count the rooms of her2d, its floors, and the arrows between rooms."""
    graph = grimp.build_graph("her2d", cache_dir=None)
    layers = layers_of(_PYPROJECT, "her2d")
    found = examine(graph, "her2d", layers)
    typer.echo(f"rooms          {len(found.rooms)}")
    typer.echo(f"floors         {found.floors}")
    typer.echo(f"arrows         {len(found.arrows)}")
    typer.echo(f"upward arrows  {len(found.upward)} ({'by layers' if layers else 'in cycles'})")
    typer.echo(f"loose modules  {', '.join(found.loose) or 'none'}")
    for arrow in found.upward:
        typer.echo(f"upward: {arrow.importer} -> {arrow.imported}")
    for arrow in found.arrows if arrows else ():
        typer.echo(f"\n{arrow.importer} -> {arrow.imported}")
        for importing, imported in arrow.imports:
            typer.echo(f"    {importing} imports {imported}")


if __name__ == "__main__":
    app()
