"""The stored slide and tumour mask at low resolution."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from her2d.results.pictures import Pictures, PicturesMissing, read_pictures, write_pictures
from her2d.results.stored_run import read_run


@pytest.fixture
def pictures():
    y, x = np.mgrid[:128, :192].astype(np.uint8)
    return Pictures(np.stack([x, y, 255 - x], axis=2), x, 64)


def test_pictures_read_back_the_tumour_exactly_and_the_slide_nearly(pictures, tmp_path):
    read = read_pictures(write_pictures(tmp_path / "heat" / "a.b", pictures))
    assert np.array_equal(read.tumor, pictures.tumor)
    assert np.abs(read.rgb.astype(int) - pictures.rgb).mean() < 4
    assert read.tile_px == 64
    names = sorted(file.name for file in (tmp_path / "heat").iterdir())
    assert names == ["a.b.slide.jpg", "a.b.tumor.png"]


def test_a_missing_picture_is_named(pictures, tmp_path):
    record = write_pictures(tmp_path / "a", pictures)
    Path(record.tumor_path).unlink()
    with pytest.raises(PicturesMissing, match=r"a\.tumor\.png cannot be read"):
        read_pictures(record)


def test_pictures_of_different_sizes_are_refused(pictures, tmp_path):
    record = write_pictures(tmp_path / "a", pictures)
    cv2.imwrite(record.tumor_path, np.zeros((5, 5), np.uint8))
    with pytest.raises(PicturesMissing, match="have different sizes"):
        read_pictures(record)


def test_a_run_is_read_back_with_its_geometry_tiles_and_pictures(db, record, pictures, tmp_path):
    run = read_run(db, record(pictures=write_pictures(tmp_path / "a", pictures)))
    assert (run.geometry.columns, run.geometry.rows, run.geometry.tile_side) == (8, 6, 512)
    assert run.geometry.box(7, 5) == (3584, 2560, 4096, 3072)
    assert run.tiles.tile_class == ("non_tumor", "strong", "weak", "unreadable")
    assert np.isnan(run.tiles.p_strong[[0, 3]]).all()
    assert run.tiles.p_folds[1] == pytest.approx([0.9] * 5)
    assert run.pictures().tile_px == 64


def test_the_error_for_a_run_without_pictures_gives_the_remedy(db, record):
    with pytest.raises(PicturesMissing, match=r"a\.tif .* Scan the slide again"):
        read_run(db, record()).pictures()
