"""Finding one slide's result."""

import pytest

from her2d.results.queries import AmbiguousSlide, SlideNotFound, find_slide


@pytest.fixture
def three(record):
    record()
    record(
        slide={"content_hash": "b", "file_name": "b.tif", "barcode": "7"},
        run={"her2_status": "negative"},
    )
    record(slide={"content_hash": "c", "file_name": "c.svs", "barcode": "7"})


@pytest.mark.parametrize("key", ["1", "a.tif", "a", "900444"])
def test_a_slide_is_found_by_id_name_stem_or_barcode(db, three, key):
    assert find_slide(db, key).file_name == "a.tif"


def test_an_id_wins_over_a_barcode(db, three, record):
    record(slide={"content_hash": "d", "file_name": "d.tif", "barcode": "2"})
    assert find_slide(db, "2").file_name == "b.tif"


def test_an_unknown_slide_is_not_found(db, three):
    with pytest.raises(SlideNotFound, match="no result for a slide 'magic'"):
        find_slide(db, "magic")


def test_a_barcode_of_two_slides_is_ambiguous_and_lists_them(db, three):
    with pytest.raises(AmbiguousSlide, match="ids 2, 3"):
        find_slide(db, "7")


@pytest.mark.parametrize(
    "key", ["'; drop table slides; --", "%", "a%", "", "99999999999999999999999"]
)
def test_odd_keys_find_nothing(db, three, key):
    with pytest.raises(SlideNotFound):
        find_slide(db, key)
