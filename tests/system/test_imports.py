"""Modules are imported without a search for garbage among what they define."""

import gc
import weakref

import pytest

from her2d.system.imports import importing_much


class Node:
    """An object that refers to itself, which only the collector can remove."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _unfrozen():
    yield
    gc.unfreeze()


def test_nothing_is_collected_during_the_block():
    gc.collect()  # or one may be due when the block begins
    collections = []
    gc.callbacks.append(lambda phase, info: collections.append(phase))
    try:
        with importing_much():
            made = [[] for _ in range(10 * gc.get_threshold()[0])]
    finally:
        gc.callbacks.pop()
    assert made
    assert collections == []


def test_what_was_imported_is_not_looked_at_again():
    before = gc.get_freeze_count()
    with importing_much():
        made = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(made)


def test_garbage_that_is_made_afterwards_is_collected():
    with importing_much():
        pass
    assert gc.isenabled()
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None


def test_a_program_that_collects_no_garbage_stays_so():
    gc.disable()
    try:
        with importing_much():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ModuleNotFoundError), importing_much():
        import a_module_that_does_not_exist  # noqa: F401
    assert gc.isenabled()
