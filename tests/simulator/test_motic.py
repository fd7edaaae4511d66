"""Simulated slides as a reader sees them."""

import pytest

from her2d.simulator.motic import write_he_slide, write_ihc_slide
from her2d.simulator.plan import plan_slide
from her2d.slides.label import label_barcodes
from her2d.slides.reader import open_slide


@pytest.mark.parametrize(("width", "height"), [(513, 512), (515, 514)])
@pytest.mark.slow
def test_an_ihc_slide_has_the_grid_of_its_he_slide_at_40x(tmp_path, width, height):
    """The pyramid of a 40x slide drops odd pixels, and one pixel can be a column of tiles."""
    plan = plan_slide(
        "a", 3, her2_status="positive", width=width, height=height, magnification=40.0
    )
    write_he_slide(plan, tmp_path / "he.tif")
    write_ihc_slide(plan, tmp_path / "ihc.tif")
    with open_slide(tmp_path / "he.tif") as he, open_slide(tmp_path / "ihc.tif") as ihc:
        assert (ihc.grid.width, ihc.grid.height) == (he.grid.width, he.grid.height)
        assert (ihc.grid.columns, ihc.grid.rows) == (he.grid.columns, he.grid.rows)


def test_the_label_bears_the_slides_barcode(tmp_path):
    plan = plan_slide("a", 3, her2_status="positive", width=600, height=600, magnification=4.0)
    write_he_slide(plan, tmp_path / "he.tif")
    with open_slide(tmp_path / "he.tif") as slide:
        assert label_barcodes(slide) == [plan.barcode] == [slide.metadata.barcode]
