"""Files that are whole or not there, and what killed writers leave."""

import os
import time

from her2d.system.files import remove_leftovers, write_whole


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.png", b"whole")
    left, being_written = tmp_path / ".zpb.png.part", tmp_path / ".now.png.part"
    left.write_bytes(b"half")
    being_written.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    assert remove_leftovers(tmp_path) == [left]
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", ".now.png.part"}


def test_a_folder_that_is_not_there_yet_has_no_leftovers(tmp_path):
    assert remove_leftovers(tmp_path / "heatmaps") == []
