"""A slide whose file was renamed: every name that is shown is the current one."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from laboratory import laboratory

from her2d.db.connection import open_database
from her2d.db.prune import prune_tiles
from her2d.results.pictures import PicturesMissing
from her2d.results.queries import find_slide
from her2d.results.renaming import rename_pictures, rename_slide

__all__ = ["laboratory"]


@pytest.fixture
def scanned(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "wrong patient.tif"))
    return laboratory


@pytest.fixture
def db(scanned):
    db = open_database(scanned.database)
    yield db
    db.close()


def rename(db, name: str) -> None:
    rename_slide(db, 1, Path("/in") / name)
    rename_pictures(db, 1)


def pictures(laboratory) -> list[str]:
    return sorted(path.name for path in (laboratory.folder / "heatmaps").iterdir())


def test_heatmap_and_pictures_have_the_current_name_and_no_file_has_the_former_one(scanned, db):
    before = pictures(scanned)
    rename(db, "right patient.tif")
    assert pictures(scanned) == [name.replace("wrong", "right") for name in before]
    assert Path(find_slide(db, "right patient.tif").heatmap_path).name in pictures(scanned)


def test_the_heatmaps_picture_stays_and_only_its_heading_changes(scanned, db):
    before = cv2.imread(find_slide(db, "1").heatmap_path)
    rename(db, "right patient.tif")
    after = cv2.imread(find_slide(db, "1").heatmap_path)
    changed = np.nonzero((before != after).any(axis=(1, 2)))[0]
    assert 0 < changed.min() <= changed.max() < 60  # the lines of the title
    rename(db, "wrong patient.tif")
    assert np.array_equal(cv2.imread(find_slide(db, "1").heatmap_path), before)


def test_exports_and_report_have_the_current_name_only(scanned, db, tmp_path):
    rename(db, "right patient.tif")
    for kind in ("html", "fhir", "geojson", "ome-tiff"):
        output = tmp_path / kind
        assert scanned.run("export", "1", "--format", kind, "-o", output).exit_code == 0
        assert b"wrong patient.tif" not in output.read_bytes()


def test_a_slide_without_tile_rows_is_renamed_with_its_heatmap(scanned, db):
    assert prune_tiles(db, keep_days=0).runs == 1
    rename(db, "right patient.tif")
    assert all(name.startswith("right patient.") for name in pictures(scanned))


def test_the_former_name_leads_to_the_slide_until_another_slide_has_it(
    scanned, db, write_slide, tmp_path
):
    rename(db, "right patient.tif")
    rename(db, "certain patient.tif")
    for name in ("wrong patient.tif", "right patient", "certain patient.tif"):
        assert scanned.json("show", f"name:{name}")["file_name"] == "certain patient.tif"
    folder = tmp_path / "later"
    folder.mkdir()
    scanned.run("scan", write_slide(["ww"], "wrong patient.tif", folder=folder))
    assert find_slide(db, "name:wrong patient.tif").her2_status == "negative"


def test_a_name_is_recorded_once_and_told_in_an_event(scanned, db):
    rename(db, "right patient.tif")
    rename(db, "right patient.tif")
    names = db.execute("select file_name from former_names").fetchall()
    assert names == [("wrong patient.tif",)]
    told = db.execute("select slide_id, detail from events where name = 'renamed'").fetchall()
    assert told == [(1, "wrong patient.tif is now right patient.tif.")]


def test_a_file_that_moved_to_another_folder_has_no_former_name(scanned, db):
    rename_slide(db, 1, Path("/elsewhere/wrong patient.tif"))
    assert find_slide(db, "1").path == "/elsewhere/wrong patient.tif"
    assert db.execute("select count(*) from former_names").fetchone() == (0,)


def test_pictures_that_are_missing_leave_the_database_as_it_was(scanned, db):
    heatmap = Path(find_slide(db, "1").heatmap_path)
    heatmap.unlink()
    rename_slide(db, 1, Path("/in/right patient.tif"))
    with pytest.raises(PicturesMissing, match="cannot be read"):
        rename_pictures(db, 1)
    assert find_slide(db, "1").heatmap_path == str(heatmap)
    assert json.loads(scanned.run("show", "1", "--json").stdout)["file_name"] == "right patient.tif"
