"""Every query takes less than 50 ms of processor time with 100,000 slides and 20 million tiles.

make bench        prints the milliseconds of each, the best of seven and their median

The limit is for the best, because other load on the machine can only add to it.
"""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from laboratory_sql import (
    NUMBERS_SQL,
    OUTCOMES_SQL,
    QUALITY_SQL,
    RUNS_SQL,
    SLIDES_SQL,
    TILES_SQL,
)
from sqlite_utils import Database

from her2d.daemon.ihc_readings import read_ihc
from her2d.db.connection import open_database, open_readonly
from her2d.results.comparison import compare_bundles
from her2d.results.history import runs_of_slide, tile_summary
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.queries import find_slide
from her2d.results.records import QualityFlag

SLIDES = 100_000
RUN_AGAIN = 20_000  # by a second bundle
TILES_A_RUN = 200
LIMIT_MS = 50.0
REPEATS = 7
pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory) -> Database:
    path = tmp_path_factory.mktemp("bench") / "her2d.sqlite"
    db = open_database(path)
    started = time.monotonic()
    with db.atomic():
        db.execute("insert into bundles values (1, 'd', 'demo', '1', '{}', 't')")
        db.execute("insert into bundles values (2, 'e', 'demo', '2', '{}', 't')")
        db.execute(NUMBERS_SQL.format(last=SLIDES) + SLIDES_SQL)
        db.execute(NUMBERS_SQL.format(last=SLIDES) + RUNS_SQL.format(bundle=1, step=1.7))
        db.execute(NUMBERS_SQL.format(last=RUN_AGAIN) + RUNS_SQL.format(bundle=2, step=1.69))
        db.execute(QUALITY_SQL)
        db.execute(NUMBERS_SQL.format(last=SLIDES) + OUTCOMES_SQL)
        db.execute("update runs set send_to_ihc = high_expression_percent between 9.6 and 10")
    for first in range(1, SLIDES, 10_000):
        with db.atomic():
            db.execute(
                NUMBERS_SQL.format(last=TILES_A_RUN) + TILES_SQL, [first, first + 10_000 - 1]
            )
    tiles = next(db.query("select count(*) as n from tiles"))["n"]
    size = path.stat().st_size / 2**30
    db.close()
    print(f"\n{SLIDES:,} slides, {tiles:,} tiles, {size:.2f} GiB", end=" ")
    print(f"written in {time.monotonic() - started:.0f} s")
    assert tiles == SLIDES * TILES_A_RUN
    return open_readonly(path)


def rows_of(view: str) -> Callable[[Database], object]:
    return lambda db: list(db.query(f"select * from {view}"))


def page(wanted: ResultFilter, order: Order | None = None) -> Callable[[Database], object]:
    return lambda db: list_results(db, wanted, order=order or Order(), limit=50)


BUNDLE = SimpleNamespace(digest="d", calibration=None)
MARCH = ResultFilter(since=datetime(2024, 3, 1, tzinfo=UTC), until=datetime(2024, 4, 1, tzinfo=UTC))
QUERIES: dict[str, Callable[[Database], object]] = {
    "slide_results, newest 50": rows_of("slide_results order by run_id desc limit 50"),
    "slide_results, one slide": rows_of("slide_results where slide_id = 77777"),
    "slide_results, positive this week": rows_of(
        "slide_results where her2_status = 'positive' and finished_at >= '2025-11-01'"
    ),
    "daily_counts": rows_of("daily_counts"),
    "throughput": rows_of("throughput"),
    "borderline_cases": rows_of("borderline_cases limit 100"),
    "ihc_worklist": rows_of("ihc_worklist limit 100"),
    "bundle_agreement": rows_of("bundle_agreement"),
    "quality_concerns": rows_of("quality_concerns limit 100"),
    "results": page(ResultFilter()),
    "results --status positive": page(ResultFilter(status="positive")),
    "results --borderline": page(ResultFilter(borderline=True)),
    "results --send-to-ihc": page(ResultFilter(send_to_ihc=True)),
    "results --since --until": page(MARCH),
    "results --bundle": page(ResultFilter(bundle="demo 2")),
    "results --text": page(ResultFilter(text="999")),
    "results --text, nothing found": page(ResultFilter(text="no such slide")),
    "results --text, each slide": page(ResultFilter(text=".tif")),
    "results --text, each tenth": page(ResultFilter(text="S07")),
    "results --text, two characters": page(ResultFilter(text="S0")),
    "results --text, two that no slide has": page(ResultFilter(text="S+")),
    "results --text --sort name": page(ResultFilter(text=".tif"), Order(SortKey.NAME)),
    "results --flag stain-outlier": page(
        ResultFilter(flags=frozenset({QualityFlag.STAIN_OUTLIER}))
    ),
    "results --flag off-scale": page(ResultFilter(flags=frozenset({QualityFlag.OFF_SCALE}))),
    "results --sort percent": page(ResultFilter(), Order(SortKey.PERCENT)),
    "results --sort name": page(ResultFilter(), Order(SortKey.NAME, descending=False)),
    "results --sort margin": page(ResultFilter(), Order(SortKey.MARGIN, descending=False)),
    "count of results": count_results,
    "count of text": lambda db: count_results(db, ResultFilter(text="999")),
    "count of a text that each slide has": lambda db: count_results(db, ResultFilter(text=".tif")),
    "count of two characters": lambda db: count_results(db, ResultFilter(text="S0")),
    "count of a bundle's results": lambda db: count_results(db, ResultFilter(bundle="demo 2")),
    "count of March": lambda db: count_results(db, MARCH),
    "count of positive results": lambda db: count_results(db, ResultFilter(status="positive")),
    "show, by name": lambda db: find_slide(db, "S077777"),
    "show, tiles": lambda db: tile_summary(db, 77_777),
    "show, runs": lambda db: runs_of_slide(db, 7_777),
    "outcomes for a scrape": lambda db: read_ihc(db, BUNDLE),
    "compare": lambda db: compare_bundles(db, "demo 1", "demo 2"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_fast_enough(laboratory, name):
    query = QUERIES[name]
    query(laboratory)
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        query(laboratory)
        taken.append(1000 * (time.process_time() - started))
    best, median = min(taken), statistics.median(taken)
    print(f"\n{name:40} {best:7.1f} ms, median {median:.1f} (limit: {LIMIT_MS:.0f})", end="")
    assert best < LIMIT_MS
