"""The counts of rooms, floors and arrows, on small graphs and on her2d."""

import grimp
import pytest
from typer.testing import CliRunner

from tools.architecture import ALLOWED_LOOSE, Architecture, app, examine, layers_of


def graph_of(*imports: tuple[str, str]) -> grimp.ImportGraph:
    """A graph of the package `p` with these imports; names are without `p.`."""
    graph = grimp.ImportGraph()
    graph.add_module("p")
    for pair in imports:
        for module in pair:
            parts = module.split(".")
            for length in range(1, len(parts) + 1):
                graph.add_module(".".join(["p", *parts[:length]]))
        graph.add_import(importer=f"p.{pair[0]}", imported=f"p.{pair[1]}")
    return graph


CHAIN = (("cli.scan", "api"), ("cli.queue", "store.jobs"), ("api", "store.jobs"), ("store.a", "os"))


def test_a_chain_of_rooms_has_a_floor_for_each_and_one_arrow_for_each_pair():
    found = examine(graph_of(*CHAIN, ("cli.scan", "store.a")), "p")
    assert found.rooms == ("api", "cli", "os", "store")
    assert found.floors == 4
    arrows = [(arrow.importer, arrow.imported) for arrow in found.arrows]
    assert arrows == [("api", "store"), ("cli", "api"), ("cli", "store"), ("store", "os")]
    assert found.arrows[2].imports == (
        ("p.cli.queue", "p.store.jobs"),
        ("p.cli.scan", "p.store.a"),
    )
    assert found.upward == ()


def test_imports_within_a_room_are_not_arrows():
    found = examine(graph_of(("cli.scan", "cli.app"), ("cli.app", "cli.errors")), "p")
    assert (found.rooms, found.floors, found.arrows) == (("cli",), 1, ())


def test_a_cycle_counts_as_one_room_and_its_arrows_are_upward():
    found = examine(graph_of(*CHAIN, ("store.jobs", "api")), "p")
    assert found.floors == 3
    upward = {(arrow.importer, arrow.imported) for arrow in found.upward}
    assert upward == {("api", "store"), ("store", "api")}


def test_with_layers_an_arrow_against_their_order_is_upward_even_without_a_cycle():
    layers = [frozenset({"cli"}), frozenset({"store", "os"}), frozenset({"api"})]
    found = examine(graph_of(*CHAIN), "p", layers)
    assert [(arrow.importer, arrow.imported) for arrow in found.upward] == [("api", "store")]


def test_modules_beside_the_rooms_are_loose_unless_they_are_allowed():
    found = examine(graph_of(("__main__", "cli.app"), ("helpers", "errors")), "p")
    assert found.loose == ("helpers",)
    assert "__main__" not in found.rooms


@pytest.mark.parametrize(
    "contract",
    [
        'layers = ["p.cli", "p.api | p.store", "(p.os) : p.clock", "q.other"]',
        'containers = ["p"]\nlayers = ["cli", "api | store", "(os) : clock", ""]',
    ],
)
def test_the_layers_are_those_of_import_linters_contract(tmp_path, contract):
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[[tool.importlinter.contracts]]\ntype = "layers"\n{contract}\n')
    cli, second, third, _ = layers_of(path, "p")
    assert (cli, second, third) == ({"cli"}, {"api", "store"}, {"os", "clock"})


def test_without_a_contract_there_are_no_layers(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[[tool.importlinter.contracts]]\ntype = "forbidden"\n')
    assert layers_of(path, "p") == ()


@pytest.fixture(scope="module")
def her2d() -> Architecture:
    return examine(grimp.build_graph("her2d", cache_dir=None), "her2d")


def test_her2d_has_no_cycle_between_rooms(her2d):
    assert [(arrow.importer, arrow.imported) for arrow in her2d.upward] == []


def test_her2d_has_no_loose_module_but_the_six(her2d):
    assert her2d.loose == ()
    assert {"inference", "pipeline", "db"} <= set(her2d.rooms)
    assert len(ALLOWED_LOOSE) == 6


def test_the_command_prints_the_counts_and_on_request_every_arrow():
    result = CliRunner().invoke(app, ["--arrows"])
    assert result.exit_code == 0
    assert result.stdout.startswith("rooms ")
    assert "\ninference -> bundle\n    her2d.inference." in result.stdout
