"""Finding one slide's result."""

from pathlib import Path

import pytest

from her2d.queue.store import JobQueue
from her2d.results.queries import AmbiguousSlide, SlideNotFound, find_slide
from her2d.system.file_identity import FileState


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


@pytest.mark.parametrize(
    ("key", "name"), [("id:2", "b.tif"), ("barcode:900444", "a.tif"), ("name:c", "c.svs")]
)
def test_a_prefix_says_which_of_its_names_is_meant(db, three, key, name):
    assert find_slide(db, key).file_name == name


def test_an_id_and_another_slides_barcode_are_ambiguous(db, three, record):
    record(slide={"content_hash": "d", "file_name": "d.tif", "barcode": "2"})
    with pytest.raises(AmbiguousSlide) as refused:
        find_slide(db, "2")
    assert str(refused.value) == (
        "'2' means several slides: b.tif (slide 2, by its id); d.tif (slide 4, by its barcode)."
        " Name one by its id, such as id:2 or id:4."
    )
    assert find_slide(db, "id:2").file_name == "b.tif"
    assert find_slide(db, "barcode:2").file_name == "d.tif"


def test_an_id_and_another_slides_file_name_are_ambiguous(db, three, record):
    record(slide={"content_hash": "d", "file_name": "2.tif", "barcode": None})
    with pytest.raises(AmbiguousSlide, match=r"2\.tif \(slide 4, by its file name\)"):
        find_slide(db, "2")


def test_a_barcode_and_another_slides_file_name_are_ambiguous(db, three, record):
    record(slide={"content_hash": "d", "file_name": "900444.svs", "barcode": None})
    with pytest.raises(AmbiguousSlide, match=r"by its barcode.*by its file name"):
        find_slide(db, "900444")


def test_a_barcode_on_the_label_of_another_slide_is_ambiguous(db, three, record):
    record(slide={"content_hash": "d", "file_name": "d.tif", "label_barcode": "900444"})
    with pytest.raises(AmbiguousSlide, match="slide 4, by its barcode on the label"):
        find_slide(db, "900444")


def test_a_slide_that_is_meant_by_several_of_its_names_is_that_slide(db, three, record):
    record(slide={"content_hash": "d", "file_name": "4.tif", "barcode": "4", "label_barcode": "4"})
    assert find_slide(db, "4").file_name == "4.tif"


def test_an_id_and_the_name_of_a_file_without_a_result_are_ambiguous(db, three):
    scan = Path("/in/2.tif")
    job = JobQueue(db).refuse(scan, FileState(1, 2, 3), "is not a TIFF file")
    with pytest.raises(AmbiguousSlide, match=rf"2\.tif \(no result yet, job {job.id}, by its file"):
        find_slide(db, "2")
    assert find_slide(db, "id:2").file_name == "b.tif"


def test_a_slide_is_found_by_the_name_it_had_before(db, record):
    jobs = JobQueue(db)
    job = jobs.refuse(Path("/in/before.tif"), FileState(1, 2, 3), "")
    record(slide={"file_name": "now.tif"}, job_id=job.id)
    assert find_slide(db, "before").file_name == "now.tif"


def test_a_slide_has_no_leading_zeros_and_no_other_digits(db, three):
    for key in ("01", "１", "+1", " 1"):
        with pytest.raises(SlideNotFound):
            find_slide(db, key)


@pytest.mark.parametrize("name", ["x.ndpi", "x.TIF", "x.mrxs"])
def test_a_name_without_its_extension_is_found_whatever_the_extension(db, three, record, name):
    record(slide={"content_hash": "d", "file_name": name, "barcode": None})
    record(slide={"content_hash": "e", "file_name": "x.y.tif", "barcode": None})
    assert find_slide(db, "x").file_name == name


def test_a_name_that_is_not_utf_8_is_looked_for_as_it_is_listed(db, three):
    with pytest.raises(SlideNotFound, match="xff"):
        find_slide(db, "bad\udcff.tif")


def test_at_most_ten_slides_are_listed(db, record):
    for number in range(12):
        record(slide={"content_hash": str(number), "file_name": "same.tif"})
    with pytest.raises(AmbiguousSlide, match="and 2 more"):
        find_slide(db, "same.tif")


def test_an_unknown_slide_is_not_found(db, three):
    with pytest.raises(SlideNotFound, match="no result for a slide 'magic'"):
        find_slide(db, "magic")


def test_a_barcode_of_two_slides_is_ambiguous_and_lists_them(db, three):
    with pytest.raises(
        AmbiguousSlide, match=r"b\.tif \(slide 2, .*c\.svs \(slide 3, .*id:2 or id:3"
    ):
        find_slide(db, "7")


@pytest.mark.parametrize(
    "key", ["'; drop table slides; --", "%", "a%", "", "99999999999999999999999"]
)
def test_odd_keys_find_nothing(db, three, key):
    with pytest.raises(SlideNotFound):
        find_slide(db, key)
