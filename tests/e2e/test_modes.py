"""Permissions of what a daemon and its commands leave, whatever umask they run with."""

import os
from pathlib import Path

import pytest

from her2d.cli.demo import _prepare
from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


def modes_below(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mode & 0o777
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("umask", "most"), [("000", 0o640), ("077", 0o600)])
def test_results_are_for_owner_and_group_at_most(site, write_slide, umask, most):
    site.set("intake", on_success="move", archive=site.folder / "archive")
    with site.daemon(prefix=("sh", "-c", f'umask {umask}; exec "$@"', "sh")):
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_until(lambda: site.events()["slide_archived"] == 1)
        site.wait_for(JobState.DONE)
        site.command("db", "backup")
        found = modes_below(site.folder)
    own = [name for name in found if Path(name).suffix not in (".tif", ".toml", ".jsonl")]
    assert {Path(name).suffix for name in own} >= {".png", ".jpg", ".sqlite", ".lock"}
    assert {name: oct(found[name]) for name in own if found[name] & ~most} == {}


def test_the_demos_settings_are_for_owner_and_group_at_most(tmp_path, color_bundle):
    before = os.umask(0)
    try:
        _prepare(tmp_path / "demo", color_bundle.directory)
    finally:
        os.umask(before)
    assert modes_below(tmp_path / "demo")["config.toml"] == 0o640
