"""Files and folders that are complete or absent, and leftovers of killed processes."""

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest

from her2d.system.files import (
    PRIVATE,
    PUBLIC,
    create_file,
    flush_folder,
    make_folder,
    private_opener,
    remove_leftovers,
    replace_folder,
    replacing,
    write_whole,
)


@pytest.fixture
def flushed(monkeypatch) -> list[str]:
    """The names of the files and folders that were flushed, in order."""
    names: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    return names


def fail_to_write(path: Path) -> None:
    with replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError


def test_a_file_and_then_its_folder_are_flushed(tmp_path, flushed):
    write_whole(tmp_path / "deep" / "a.png", b"whole")
    assert (tmp_path / "deep" / "a.png").read_bytes() == b"whole"
    above, part, folder = flushed
    assert above == tmp_path.name  # which now has the name of the new folder
    assert part.startswith(".")
    assert part.endswith(".png.part")
    assert folder == "deep"


def test_a_failed_write_leaves_only_the_old_file(tmp_path):
    write_whole(tmp_path / "a.png", b"old")
    with pytest.raises(RuntimeError):
        fail_to_write(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_file_that_cannot_be_flushed_does_not_replace_the_old_one(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.png", b"old")

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a.png", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("umask", "expected"),
    [
        (0o022, {"private": 0o640, "public": 0o644}),
        (0o077, {"private": 0o600, "public": 0o600}),
        (0o000, {"private": 0o640, "public": 0o666}),
    ],
)
def test_a_files_mode_follows_the_umask_and_a_private_file_is_never_readable_by_all(
    tmp_path, umask, expected
):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "private", b"")
        write_whole(tmp_path / "public", b"", mode=PUBLIC)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == expected


def test_a_part_is_private_while_it_grows(tmp_path):
    with replacing(tmp_path / "a.png", mode=PRIVATE) as part:
        assert part.stat().st_mode & 0o777 & ~0o640 == 0


def test_a_link_that_was_planted_in_a_parts_place_is_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    part = tmp_path / "copy.part"
    part.symlink_to(mine)
    with replacing(tmp_path / "copy", part):
        part.write_bytes(b"copy")
    assert mine.read_bytes() == b"mine"
    assert (tmp_path / "copy").read_bytes() == b"copy"


def test_a_file_is_never_opened_through_a_link(tmp_path):
    mine, planted = tmp_path / "mine", tmp_path / "planted"
    mine.write_bytes(b"mine")
    planted.symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links"):
        private_opener(str(planted), os.O_WRONLY)
    planted.unlink()
    planted.symlink_to(tmp_path / "absent")
    with pytest.raises(FileExistsError):
        create_file(planted)
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "absent").exists()


def test_each_new_folder_is_flushed_into_the_one_above_it(tmp_path, flushed):
    make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path.name, "a"]
    make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path.name, "a"]


def test_a_folder_replaces_another_with_all_its_files_flushed(tmp_path, flushed):
    old, new = tmp_path / "bundle", tmp_path / "bundle.part"
    (old / "only in the old one").mkdir(parents=True)
    (new / "deep").mkdir(parents=True)
    (new / "deep" / "a").write_bytes(b"new")
    replace_folder(old, new)
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == [
        Path("bundle"),
        Path("bundle/deep"),
        Path("bundle/deep/a"),
    ]
    assert sorted(flushed) == sorted(["a", "deep", "bundle.part", tmp_path.name])
    assert flushed[-1] == tmp_path.name


@pytest.mark.parametrize("killed_at", range(6))
def test_a_folder_is_replaced_as_a_whole_or_not_at_all_where_a_process_is_killed(
    tmp_path, monkeypatch, killed_at
):
    class Killed(BaseException):
        pass

    def folder(name: str, *files: str) -> Path:
        for file in files:
            write_whole(tmp_path / name / file, b"")
        return tmp_path / name

    bundle = folder("bundle", "old-1", "old-2", "old-3")
    calls = []

    def counted(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) > killed_at:
                raise Killed
            return function(*arguments, **options)

        return call

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    part = folder("bundle.part", "new-1", "new-2")
    with monkeypatch.context() as patch:
        # All that changes names on the disk, a file of a folder that is deleted among them.
        for module, name in (
            ("os", "rename"),
            ("os", "replace"),
            ("os", "unlink"),
            ("os", "rmdir"),
        ):
            patch.setattr(f"{module}.{name}", counted(getattr(os, name)))
        with contextlib.suppress(Killed):
            replace_folder(bundle, part)
    found = {path.name for path in bundle.iterdir()} if bundle.exists() else set()
    assert found in (set(), {"old-1", "old-2", "old-3"}, {"new-1", "new-2"})
    part = folder("bundle.part", "new-1", "new-2")
    with monkeypatch.context() as patch:
        patch.setattr("her2d.system.files.flush_file", full)
        with pytest.raises(OSError, match="full"):
            replace_folder(bundle, part)
    left = {path.name for path in bundle.iterdir()}
    assert left in ({"old-1", "old-2", "old-3"}, {"new-1", "new-2"})
    replace_folder(bundle, part)
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}
    assert {path.name for path in bundle.iterdir()} == {"new-1", "new-2"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_share_that_cannot_flush_a_folder_causes_no_error(tmp_path, monkeypatch, code):
    def refuse(_: int) -> None:
        raise OSError(code, "not supported")

    monkeypatch.setattr("os.fsync", refuse)
    flush_folder(tmp_path)


def test_a_disk_that_fails_to_flush_a_folder_causes_an_error(tmp_path, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        flush_folder(tmp_path)


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    write_whole(tmp_path / "a.png", b"whole")
    left, being_written = tmp_path / ".zpb.png.part", tmp_path / ".now.png.part"
    left.write_bytes(b"half")
    being_written.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    assert remove_leftovers(tmp_path) == [left]
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", ".now.png.part"}


def test_a_folder_that_does_not_exist_yet_has_no_leftovers(tmp_path):
    assert remove_leftovers(tmp_path / "heatmaps") == []
