from pathlib import Path

from her2d.cluster.paths import path_on_nodes

MAPPING = {Path("/mnt/scans"): Path("/data/scans"), Path("/mnt/scans/old"): Path("/archive")}


def test_a_file_is_below_the_folder_that_its_own_is_mapped_to():
    assert path_on_nodes(Path("/mnt/scans/a/b.tif"), MAPPING) == Path("/data/scans/a/b.tif")


def test_the_longest_mapped_folder_counts():
    assert path_on_nodes(Path("/mnt/scans/old/b.tif"), MAPPING) == Path("/archive/b.tif")


def test_a_folder_whose_name_only_begins_alike_is_not_mapped():
    assert path_on_nodes(Path("/mnt/scans2/b.tif"), MAPPING) == Path("/mnt/scans2/b.tif")
