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
    "ihc_score": "3+",
    "fish": "",
    "her2_status": "",
    "split": "train",
    "papillary": "presence",
}


def table(folder: Path, *rows: dict[str, str]) -> Path:
    (folder / "he.tif").touch()
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
    ],
)
def test_a_wrong_row_is_named(tmp_path, wrong, sentence):
    with pytest.raises(CohortError, match=sentence):
        read_cohort(table(tmp_path, wrong))


def test_every_wrong_row_is_named_at_once(tmp_path):
    with pytest.raises(CohortError, match=r"(?s)line 2.*line 4"):
        read_cohort(table(tmp_path, {"ihc_score": "2+"}, {"slide": "S2"}, {"split": "x"}))


def test_a_patient_in_two_splits_is_refused(tmp_path):
    with pytest.raises(CohortError, match="P1 is in the splits test and train"):
        read_cohort(table(tmp_path, {}, {"slide": "S2", "split": "test"}))


def test_a_slide_named_twice_is_refused(tmp_path):
    with pytest.raises(CohortError, match="S1 is listed 2 times"):
        read_cohort(table(tmp_path, {}, {}))


def test_annotations_are_found_by_a_pattern(tmp_path):
    (tmp_path / "S1.xml").touch()
    (slide,) = read_cohort(table(tmp_path, {}), annotations="{slide}.xml")
    assert slide.annotation_path == tmp_path / "S1.xml"


def test_a_scan_that_is_two_slides_is_refused(tmp_path):
    other = {"slide": "S2", "patient": "P2", "split": "test", "he_path": "./he.tif"}
    with pytest.raises(CohortError, match=r"S1 and S2 have the same scan, .*he\.tif"):
        read_cohort(table(tmp_path, {}, other))
