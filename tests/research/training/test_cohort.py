"""The cohort table, with the paper's HER2 rule and errors by row."""

import csv
from pathlib import Path

import pytest

from her2d.research.training.cohort import (
    CohortError,
    Split,
    Status,
    her2_status,
    read_cohort,
)

ROW = {
    "slide": "S1",
    "patient": "P1",
    "he_path": "he.tif",
    "ihc_path": "",
    "annotation_path": "S1.xml",
    "ihc_score": "3+",
    "fish": "",
    "her2_status": "",
    "split": "train",
    "papillary": "presence",
}


def table(folder: Path, *rows: dict[str, str]) -> Path:
    for name in ("he.tif", "S1.xml", "S2.xml"):
        (folder / name).touch()
    with (folder / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
    return folder / "cohort.csv"


@pytest.mark.parametrize(
    ("ihc", "fish", "status"),
    [
        ("3+", "", Status.POSITIVE),
        ("3+", "negative", Status.POSITIVE),
        ("2+", "positive", Status.POSITIVE),
        ("2+", "negative", Status.NEGATIVE),
        ("1+", "", Status.NEGATIVE),
        ("0", "", Status.NEGATIVE),
    ],
)
def test_the_papers_rule(ihc, fish, status):
    assert her2_status(ihc, fish) is status


def test_ihc_2_without_fish_is_refused_as_equivocal():
    with pytest.raises(ValueError, match="equivocal"):
        her2_status("2+", "")


def test_a_row_becomes_a_slide_and_further_columns_morphology(tmp_path):
    (slide,) = read_cohort(table(tmp_path, {}))
    assert (slide.name, slide.patient, slide.split) == ("S1", "P1", Split.TRAIN)
    assert slide.her2_status is Status.POSITIVE
    assert slide.he_path == tmp_path / "he.tif"
    assert slide.morphology == {"papillary": "presence"}


def test_a_slide_without_tumour_says_so(tmp_path):
    (slide,) = read_cohort(table(tmp_path, {"ihc_score": "", "her2_status": "indeterminate"}))
    assert slide.her2_status is Status.INDETERMINATE


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ihc_score": "2+"}, "line 2: .*equivocal"),
        ({"ihc_score": "4+"}, "line 2: ihc_score"),
        ({"ihc_score": ""}, "line 2: .*the IHC score is missing"),
        ({"her2_status": "negative"}, "line 2: .*give positive"),
        ({"split": "validation"}, "line 2: split"),
        ({"he_path": "gone.tif"}, r"line 2: .*gone\.tif does not exist"),
        ({"slide": "../S1"}, "line 2: slide"),
        ({"patient": ""}, "line 2: patient"),
        ({"slide": "a" * 300}, "line 2: slide"),
        ({"he_path": "."}, "line 2: .* is not a file"),
        ({"he_path": "x" * 300}, "line 2: .* cannot be opened: File name too long"),
        ({"annotation_path": ""}, "line 2: the annotation is missing"),
        ({"annotation_path": "gone.xml"}, r"line 2: .*gone\.xml does not exist"),
        ({"papillary": "-5"}, "line 2: Age must be years from 0 to 130, or empty"),
        ({"papillary": "nan"}, "line 2: Age must be years from 0 to 130, or empty"),
        ({"papillary": "6_4"}, "line 2: Age must be years from 0 to 130, or empty"),
        ({"papillary": "٦٤"}, "line 2: Age must be years from 0 to 130, or empty"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, wrong, sentence):
    path = table(tmp_path, wrong)
    if "Age" in sentence:
        path.write_text(path.read_text().replace("papillary", "Age"))
    with pytest.raises(CohortError, match=sentence):
        read_cohort(path)


@pytest.mark.parametrize("age", ["0", "64.5", "６４", "", "not known"])
def test_an_age_may_be_missing(tmp_path, age):
    path = table(tmp_path, {"papillary": age})
    path.write_text(path.read_text().replace("papillary", "age"))
    (slide,) = read_cohort(path)
    assert slide.morphology == {"age": age}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path, delimiter):
    path = table(tmp_path, {"annotation_path": "S1.xml"})
    text = path.read_text().replace("slide,", " Slide ,", 1).replace(",", delimiter)
    path.write_text(f"\ufeff{text}{delimiter * 3}\r\n")
    (slide,) = read_cohort(path)
    assert (slide.name, slide.morphology) == ("S1", {"papillary": "presence"})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("papillary", "split", "the column 'split' is there twice"),
        ("slide,patient", "name,patient", "the column 'slide' is missing"),
        (
            "presence",
            "presence,1",
            "line 2: the row has text in a column that the header does not name",
        ),
        ("P1", '"P1', "cannot be read"),
        ("presence", "K\udcf6ln", "is not UTF-8. Save it again as CSV with the encoding UTF-8"),
    ],
)
def test_a_damaged_table_is_refused_in_words(tmp_path, old, new, sentence):
    path = table(tmp_path, {})
    damaged = path.read_text().replace(old, new, 1).encode(errors="surrogateescape")
    path.write_bytes(damaged)
    with pytest.raises(CohortError, match=sentence):
        read_cohort(path)


@pytest.mark.parametrize("pattern", ["mask.tif", "{name}.tif", "{0}", ""])
def test_a_pattern_that_names_one_annotation_for_all_slides_is_refused(tmp_path, pattern):
    with pytest.raises(CohortError, match=r"must hold \{slide\}"):
        read_cohort(table(tmp_path, {}), annotations=pattern)


def test_an_annotation_of_two_slides_is_refused(tmp_path):
    (tmp_path / "two.tif").touch()
    other = {"slide": "S2", "he_path": "two.tif", "annotation_path": "./S1.xml"}
    with pytest.raises(CohortError, match=r"S1 and S2 have the same annotation, .*S1\.xml"):
        read_cohort(table(tmp_path, {}, other))


def test_an_h_and_e_scan_is_no_slides_ihc_scan(tmp_path):
    with pytest.raises(CohortError, match=r"S1 has as its IHC slide an H&E scan .*he\.tif"):
        read_cohort(table(tmp_path, {"ihc_path": "he.tif"}))


def test_every_wrong_row_is_named_at_once(tmp_path):
    with pytest.raises(CohortError, match=r"(?s)line 2.*line 4"):
        read_cohort(table(tmp_path, {"ihc_score": "2+"}, {"slide": "S2"}, {"split": "x"}))


def test_a_patient_in_two_splits_is_refused(tmp_path):
    with pytest.raises(CohortError, match="P1 is in the splits test and train"):
        read_cohort(
            table(tmp_path, {}, {"slide": "S2", "split": "test", "annotation_path": "S2.xml"})
        )


def test_a_slide_named_twice_is_refused(tmp_path):
    with pytest.raises(CohortError, match="S1 is listed 2 times"):
        read_cohort(table(tmp_path, {}, {}))


def test_annotations_are_found_by_a_pattern(tmp_path):
    path = table(tmp_path, {"annotation_path": ""})
    (slide,) = read_cohort(path, annotations="{slide}.xml")
    assert slide.annotation_path == tmp_path / "S1.xml"


def test_a_scan_that_is_two_slides_is_refused(tmp_path):
    other = {"slide": "S2", "patient": "P2", "split": "test", "he_path": "./he.tif"}
    with pytest.raises(CohortError, match=r"S1 and S2 have the same scan, .*he\.tif"):
        read_cohort(table(tmp_path, {}, other))
