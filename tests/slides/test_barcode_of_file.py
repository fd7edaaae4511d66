"""The barcode of a scan that has no result."""

import tifffile

from her2d.slides.barcode_of_file import barcode_of_file


def test_a_scan_that_could_be_scored_has_its_own(write_slide):
    assert barcode_of_file(write_slide(["w"], "900444.tif")) == "900444"


def test_a_scan_that_is_refused_has_the_one_that_its_description_states(write_slide):
    path = write_slide(["w"], "a.tif")
    tifffile.tiffcomment(path, "Motic V1.0.0\nno size|AppMag = 0|Barcode = S26-17")
    assert barcode_of_file(path) == "S26-17"


def test_a_file_that_is_cut_short_not_a_scan_or_missing_has_none(write_slide, tmp_path):
    whole = write_slide(["w"], "a.tif")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:9])
    text = tmp_path / "text.tif"
    text.write_text("Barcode = 1")
    assert [barcode_of_file(path) for path in (cut, text, tmp_path / "no.tif")] == [None] * 3


def test_a_shortage_while_it_is_read_is_not_raised(write_slide, monkeypatch):
    def short(*_arguments, **_more):
        raise MemoryError

    monkeypatch.setattr("her2d.slides.barcode_of_file.open_slide", short)
    assert barcode_of_file(write_slide(["w"], "900444.tif")) is None
