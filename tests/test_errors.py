"""One exception tree, drawn in `her2d.errors`."""

import importlib
import inspect
import pickle
import pkgutil
import re

import pytest

import her2d
from her2d import errors
from her2d.errors import Her2dError
from her2d.processing.errors import TooFewTilesError
from her2d.slides.errors import SlideError

# Needs a CUDA toolkit, or is a script.
LEFT_OUT = {"her2d.__main__", "her2d.inference.cuda.pycuda_device"}


def own_errors() -> list[type[BaseException]]:
    """Every exception class that a module of her2d defines."""
    found = set()
    for module in pkgutil.walk_packages(her2d.__path__, "her2d."):
        if module.name in LEFT_OUT:
            continue
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(each, BaseException) and each.__module__.startswith("her2d."):
                found.add(each)
    return sorted(found, key=lambda each: each.__name__)


@pytest.fixture(scope="module")
def found() -> list[type[BaseException]]:
    return own_errors()


def test_every_error_of_the_package_has_the_one_base(found):
    assert [each for each in found if not issubclass(each, Her2dError)] == []


def test_the_tree_in_the_docstring_is_the_tree_of_the_code(found):
    drawn = re.findall(r"^ {4}(.*)(?:├─|└─) (\w+)", errors.__doc__, re.MULTILINE)
    names = [name for _, name in drawn]
    public = {each.__name__ for each in found if not each.__name__.startswith("_")}
    assert sorted(names) == sorted(public - {"Her2dError"})
    parents, path = {}, []
    for indent, name in drawn:
        depth = len(indent) // 3
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else "Her2dError"
    bases = {each.__name__: each.__bases__[0].__name__ for each in found}
    assert parents == {name: bases[name] for name in names}


def test_what_ends_a_slide_says_the_same_after_its_way_from_another_process(found):
    """As from the process that reads a scan by another library, or from a node of a cluster."""
    kinds = [each for each in found if issubclass(each, SlideError)]
    assert TooFewTilesError in kinds
    for error in (
        *[kind("a.tif", "is cut short") for kind in kinds],
        SlideError("a.tif", "holds two scans", "several_areas"),
        TooFewTilesError("a.tif", "has too few tiles", is_io_error=True),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301  what was made in the line itself
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
