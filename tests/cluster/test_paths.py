from pathlib import Path

import pytest

from her2d.cluster.paths import inbox_on_nodes, path_on_nodes
from her2d.processing.identity import open_scan

MAPPING = {Path("/mnt/scans"): Path("/data/scans"), Path("/mnt/scans/old"): Path("/archive")}


def test_a_file_is_below_the_folder_that_its_own_is_mapped_to():
    assert path_on_nodes(Path("/mnt/scans/a/b.tif"), MAPPING) == Path("/data/scans/a/b.tif")


def test_the_longest_mapped_folder_counts():
    assert path_on_nodes(Path("/mnt/scans/old/b.tif"), MAPPING) == Path("/archive/b.tif")


def test_a_folder_whose_name_only_begins_alike_is_not_mapped():
    assert path_on_nodes(Path("/mnt/scans2/b.tif"), MAPPING) == Path("/mnt/scans2/b.tif")


@pytest.mark.parametrize(
    ("path", "inbox", "there"),
    [
        ("/mnt/scans/a/b.tif", "/mnt/scans", "/data/scans"),
        ("/mnt/scans/a/b.tif", "/mnt/scans/a", "/data/scans/a"),
        ("/mnt/scans/old/b.tif", "/mnt/scans", "/archive"),  # which /data/scans may not contain
        ("/mnt/scans/old/b.tif", "/mnt", "/archive"),
        ("/mnt/scans/old/a/b.tif", "/mnt/scans/old/a", "/archive/a"),
        ("/else/b.tif", "/else", "/else"),
    ],
)
def test_the_inbox_of_a_file_is_a_folder_above_it_on_the_nodes_as_well(path, inbox, there):
    assert inbox_on_nodes(Path(path), Path(inbox), MAPPING) == Path(there)
    assert path_on_nodes(Path(path), MAPPING).is_relative_to(there)


def test_a_node_opens_a_file_of_an_inbox_of_which_a_part_is_mounted_elsewhere(tmp_path):
    inbox, elsewhere = tmp_path / "scans", tmp_path / "second"
    for folder in (inbox, elsewhere):
        folder.mkdir()
    (elsewhere / "a.tif").write_bytes(b"a")
    path, mapping = inbox / "second" / "a.tif", {inbox / "second": elsewhere}
    with open_scan(path_on_nodes(path, mapping), inbox_on_nodes(path, inbox, mapping)) as scan:
        assert scan.state.size == 1
