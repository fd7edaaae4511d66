"""What triggers keep of results and outcomes, beside what reading all of them gives."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from laboratory_sql import NUMBERS_SQL, RUNS_SQL, SLIDES_SQL

from her2d.calibration.outcome import Her2Outcome
from her2d.db.connection import open_database
from her2d.results.listing import ResultFilter, count_results
from her2d.results.outcomes import count_outcomes, known_outcomes

_SLIDES = 4
_RUN = NUMBERS_SQL.format(last=1) + RUNS_SQL.format(bundle=1, step=1.7)
_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("score"),
            st.integers(1, _SLIDES),
            st.sampled_from(["positive", "negative", "indeterminate"]),
        ),
        st.tuples(st.just("delete"), st.integers(1, 8), st.none()),
        st.tuples(
            st.just("import"), st.integers(1, _SLIDES), st.sampled_from(["0", "1+", "2+", "3+"])
        ),
    ),
    max_size=15,
)


@settings(max_examples=25, deadline=None)
@given(_STEPS)
def test_the_counts_are_those_of_the_rows(steps):
    """Slides are scored, scored again and given outcomes, and runs are deleted."""
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "her2d.sqlite")
        db.execute("pragma synchronous = off")
        db.execute("insert into bundles values (1, 'd', 'demo', '1', '{}', 't')")
        db.execute(NUMBERS_SQL.format(last=_SLIDES) + SLIDES_SQL)
        for what, number, value in steps:
            match what:
                case "score":
                    db.execute(_RUN.replace("select i, 1,", f"select {number}, 1,"))
                    db.execute(
                        "update runs set her2_status = ?, reason_code = iif(id % 2, 'not-he',"
                        " null), send_to_ihc = iif(id % 3, id % 2, null)"
                        " where id = (select max(id) from runs)",
                        [value],
                    )
                    db.execute(
                        "insert into run_quality (run_id, tissue_mm2, tumor_mm2, blurred, folded,"
                        " pen_marked, stain_outlier, stained_mm2)"
                        " select max(id), 1, 1, 0, 0, 0, 0, 1 from runs"
                    )
                case "delete":
                    db.execute("delete from runs where id = ?", [number])
                case "import":
                    db.execute(
                        "insert into outcomes (slide_id, ihc, imported_at, imported_by, source)"
                        " values (?, ?, 't', 'li', 'ihc.csv')",
                        [number, value],
                    )
        for wanted in (
            ResultFilter(),
            ResultFilter(status="positive"),
            ResultFilter(send_to_ihc=True),
            ResultFilter(send_to_ihc=False, borderline=False),
            ResultFilter(status="negative", bundle="demo"),
        ):
            (by_rows,) = db.execute(
                "select count(*) from runs where is_current = 1"
                " and (:status is null or her2_status = :status)"
                " and (:to_ihc is null or send_to_ihc = :to_ihc)"
                " and (:borderline is null or borderline = :borderline)",
                {
                    "status": wanted.status,
                    "to_ihc": wanted.send_to_ihc,
                    "borderline": wanted.borderline,
                },
            ).fetchone()
            assert count_results(db, wanted) == by_rows
        for table in ("result_counts", "outcome_counts"):
            assert not db.execute(f"select * from {table} where number = 0").fetchall()
        listed = db.execute("select count(*) from slide_results").fetchone()[0]
        assert count_results(db) == listed
        known = [each.her2_outcome for each in known_outcomes(db)]
        assert count_outcomes(db) == {each: known.count(each) for each in Her2Outcome}
        db.close()
