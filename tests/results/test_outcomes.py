"""IHC and FISH results: read from a CSV, stored with their history, put beside calls."""

import sqlite3
from pathlib import Path

import pytest

from her2d.calibration.outcome import Fish, Ihc, her2_outcome
from her2d.results.listing import list_results
from her2d.results.outcome_csv import OutcomesError, read_outcomes
from her2d.results.outcomes import (
    compare_with_calls,
    count_outcomes,
    import_outcomes,
    known_outcomes,
    list_outcomes,
    outcomes_of_file,
    read_outcome_file,
)

DIGEST = "d" * 64


@pytest.fixture
def csv_file(tmp_path: Path):
    def write(text: str | bytes, name: str = "ihc.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def slides(record):
    """a.tif is called positive, b.tif and c.tif negative, d.tif has no call."""
    for name, status, percent in (
        ("a", "positive", 40.0),
        ("b", "negative", 2.0),
        ("c", "negative", 1.0),
        ("d", "indeterminate", None),
    ):
        record(
            slide={"content_hash": name, "file_name": f"{name}.tif", "barcode": f"90{name}"},
            run={"her2_status": status, "high_expression_percent": percent},
        )


@pytest.fixture
def imported(db, csv_file):
    def imported(text: str, actor: str = "li"):
        path = csv_file(text)
        return import_outcomes(db, read_outcome_file(db, path), source=path.name, actor=actor)

    return imported


def problems(db, path) -> list[str]:
    with pytest.raises(OutcomesError) as refused:
        read_outcome_file(db, path)
    return [str(refused.value), *refused.value.problems]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("slide,ihc\na,0\n", [("a", "0", None)]),
        ("\ufeffSlide , IHC,fish\r\na,2+, Amplified\r\n", [("a", "2+", "amplified")]),
        ("ihc;fish;slide\n3+;;a,b.tif\n", [("a,b.tif", "3+", None)]),
        ("slide\tihc\tfish\na\t2\tnot-amplified\n", [("a", "2+", "not amplified")]),
        ("slide,ihc\na,２＋\n\n,\nb,1+\n", [("a", "2+", None), ("b", "1+", None)]),
        ('slide,ihc\n"a ""x"".tif",3+\n', [('a "x".tif', "3+", None)]),
    ],
)
def test_a_csv_is_read_as_spreadsheets_write_it(csv_file, text, rows):
    good, bad = read_outcomes(csv_file(text))
    assert [(row.slide, row.ihc, row.fish) for row in good] == rows
    assert bad == []


def test_all_columns_are_read(csv_file):
    ((row,), _) = read_outcomes(
        csv_file(
            "slide,ihc,fish,ihc_percent,patient,read_on,read_by\n"
            'a,2+,amplified,"12,5 %",case-17,2026-03-01,Dr A. Li\n'
        )
    )
    assert (row.line, row.ihc_percent, row.patient) == (2, 12.5, "case-17")
    assert (row.read_on, row.read_by) == ("2026-03-01", "Dr A. Li")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the columns 'slide', 'ihc' are missing"),
        ("slide\na\n", "the column 'ihc' is missing"),
        ("slide,ihc,fihs\n", "'fihs' is not a column; the columns are slide, ihc, fish"),
        ("slide,ihc,ihc\n", "'ihc' is there twice"),
        ("slide,ihc\n", "does not list any outcomes"),
        ("slide,ihc\n\xe4,3+\n".encode("latin-1"), "is not UTF-8. Save it again"),
        ('slide,ihc\n"a,3+\n', "cannot be read"),
    ],
)
def test_a_file_that_is_not_such_a_csv_is_refused_in_words(csv_file, text, sentence):
    with pytest.raises(OutcomesError, match=sentence):
        read_outcomes(csv_file(text))


@pytest.mark.parametrize(
    ("cell", "percent"), [("35", 35), ("35%", 35), ('"12,5 %"', 12.5), ("１２．５％", 12.5)]
)
def test_a_percentage_is_read_as_people_write_it(csv_file, cell, percent):
    ((row,), _) = read_outcomes(csv_file(f"slide,ihc,ihc_percent\na,3+,{cell}\n"))
    assert row.ihc_percent == percent


@pytest.mark.parametrize("cell", ["130", "-1", "%", "nan", "3_5", "٣٥", "about 35"])
def test_a_percentage_that_is_not_a_number_from_0_to_100_is_refused(csv_file, cell):
    _, (row,) = read_outcomes(csv_file(f"slide,ihc,ihc_percent\na,3+,{cell}\n"))
    assert row.problem == (f"ihc_percent must be a number from 0 to 100 or empty (found {cell!r}).")


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(OutcomesError, match=r"none\.csv cannot be read: No such file"):
        read_outcomes(tmp_path / "none.csv")


def test_every_bad_row_is_told_by_its_line_and_in_words(db, record, csv_file):
    record()
    record(slide={"content_hash": "b", "file_name": "b.tif", "barcode": "7"})
    record(slide={"content_hash": "c", "file_name": "c.tif", "barcode": "7"})
    path = csv_file(
        "slide,ihc,fish,ihc_percent,read_on\n"
        "a.tif,3+,,,\n"
        "b.tif,4+,,,\n"
        "x.tif,1+,,,\n"
        ",1+,,,\n"
        "7,1+,,,\n"
        "id:1,2+,,,\n"
        "b.tif,2+,maybe,,\n"
        "b.tif,2+,,130,\n"
        "b.tif,2+,,,1 March\n"
        "b.tif,2+,,,2999-01-01\n"
        "b.tif,2+,,,,surplus\n"
    )
    summary, *rows = problems(db, path)
    assert summary == "10 of 11 rows of ihc.csv cannot be used, so none was."
    assert rows[0] == "line 3: ihc must be 0, 1+, 2+ or 3+ (found '4+')."
    assert rows[1].startswith("line 4: There is no result for a slide 'x.tif'")
    assert rows[2] == "line 5: slide is empty."
    assert rows[3].startswith("line 6: '7' means several slides: b.tif (slide 2, by its barcode)")
    assert rows[4] == ("line 7: 'id:1' is the slide of line 2, too. Give one row for each slide.")
    assert rows[5] == "line 8: fish must be amplified, not amplified or empty (found 'maybe')."
    assert rows[6].startswith("line 9: ihc_percent must be a number from 0 to 100")
    assert rows[7].startswith("line 10: read_on must be a day such as 2026-03-01")
    assert rows[8] == "line 11: read_on is in the future (found '2999-01-01')."
    assert rows[9] == "line 12: the row has text in a column that the header does not name."


def test_an_import_that_fails_half_way_stores_nothing(db, slides, csv_file, monkeypatch):
    outcomes = read_outcome_file(db, csv_file("slide,ihc\na,3+\nb,0\n"))
    db.execute(
        "create trigger full before insert on outcomes when new.slide_id = 2"
        " begin select raise(abort, 'disk is full'); end"
    )
    with pytest.raises(sqlite3.Error, match="disk is full"):
        import_outcomes(db, outcomes, source="ihc.csv", actor="li")
    assert list_outcomes(db, history=True) == []


def test_importing_again_replaces_what_changed_and_keeps_the_history(db, slides, imported):
    first = imported("slide,ihc,fish\na,2+,\nb,0,\n")
    again = imported("slide,ihc,fish\na,2+,amplified\nb,0,\nc,1+,\n", actor="wang")
    assert (first.added, first.replaced, first.unchanged) == (2, 0, 0)
    assert (again.added, again.replaced, again.unchanged) == (1, 1, 1)
    of_a = list_outcomes(db, slide_id=1, history=True)
    assert [(o.her2_outcome, o.is_current, o.imported_by) for o in of_a] == [
        ("positive", True, "wang"),
        ("equivocal", False, "li"),
    ]
    assert [o.slide_id for o in list_outcomes(db)] == [3, 1, 2]
    assert list_outcomes(db)[0].source == "ihc.csv"


def test_a_result_carries_its_outcome(db, slides, imported):
    imported("slide,ihc,fish,ihc_percent\na,2+,amplified,35\n")
    found = {result.file_name: result for result in list_results(db)}
    assert found["a.tif"].her2_outcome == "positive"
    assert found["a.tif"].outcome_text == "IHC 2+, FISH amplified: positive"
    assert found["a.tif"].ihc_percent == 35
    assert found["b.tif"].outcome_text is None


@pytest.mark.parametrize("ihc", list(Ihc))
@pytest.mark.parametrize("fish", [None, *Fish])
def test_the_database_decides_as_the_code_does(db, slides, imported, ihc, fish):
    imported(f"slide,ihc,fish\na,{ihc},{fish or ''}\n")
    (found,) = known_outcomes(db)
    assert found.her2_outcome is her2_outcome(ihc, fish)


def test_outcomes_are_counted_by_what_they_say(db, slides, imported):
    imported("slide,ihc,fish\na,3+,\nb,2+,\nc,0,\nd,2+,not amplified\n")
    assert count_outcomes(db) == {"positive": 1, "negative": 2, "equivocal": 1}


def test_calls_are_compared_with_outcomes_that_are_not_equivocal(db, slides, imported):
    imported("slide,ihc,ihc_percent,patient\na,3+,35,x\nb,2+,,\nc,0,,\nd,1+,,\n")
    found = compare_with_calls(db, known_outcomes(db), DIGEST)
    assert (found.equivocal, found.without_call, found.not_scored) == (1, 1, 0)
    assert found.called.called.tolist() == [True, False]
    assert found.called.positive.tolist() == [True, False]
    assert found.called.p.tolist() == [0.4, 0.01]
    assert found.called.ihc_share[0] == 0.35
    assert found.called.patient.tolist() == ["patient x", "slide 3"]


def test_only_the_runs_of_one_bundle_are_compared(db, slides, imported, record):
    record(
        slide={"content_hash": "a", "file_name": "a.tif"},
        run={"her2_status": "negative", "high_expression_percent": 4.0},
        bundle={"digest": "e" * 64, "version": "2"},
    )
    imported("slide,ihc\na,3+\nb,0\n")
    one, other = (compare_with_calls(db, known_outcomes(db), each * 64) for each in "de")
    assert (len(one.called), one.not_scored) == (2, 0)
    assert (len(other.called), other.not_scored) == (1, 1)
    assert other.called.p.tolist() == [0.04]


def test_a_file_is_compared_without_being_imported(db, slides, csv_file):
    outcomes = read_outcome_file(db, csv_file("slide,ihc,ihc_percent\na,3+,35\nb,0,\n"))
    found = compare_with_calls(db, outcomes_of_file(outcomes), DIGEST)
    assert len(found.called) == 2
    assert known_outcomes(db) == []


def test_the_database_refuses_two_current_outcomes_of_a_slide(db, slides, imported):
    imported("slide,ihc\na,3+\n")
    imported("slide,ihc\na,0\n")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("update outcomes set is_current = 1")
