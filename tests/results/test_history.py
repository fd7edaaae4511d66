"""A slide's runs, and the tiles and timings of one run."""

import pytest

from her2d.results.history import runs_of_slide, tile_summary, timings_of_run
from her2d.results.queries import find_slide
from her2d.results.records import StepTiming


def test_every_run_of_a_slide_is_kept_newest_first(db, record):
    first = record()
    second = record(bundle={"digest": "e" * 64, "version": "2"}, run={"her2_status": "negative"})
    runs = runs_of_slide(db, find_slide(db, "a").slide_id)
    assert [run.run_id for run in runs] == [second, first]
    assert [(run.bundle, run.her2_status) for run in runs] == [
        ("test 2", "negative"),
        ("test 1", "positive"),
    ]


def test_a_run_that_calls_by_probability_keeps_it_and_its_threshold(db, record):
    record(run={"positive_probability": 0.73, "probability_threshold": 0.4})
    [run] = runs_of_slide(db, find_slide(db, "a").slide_id)
    assert (run.positive_probability, run.probability_threshold) == (0.73, 0.4)


def test_tiles_are_counted_by_class(db, record):
    summary = {each.tile_class: each for each in tile_summary(db, record())}
    assert {
        name: (tile_class.tiles, tile_class.tumor_pixels) for name, tile_class in summary.items()
    } == {
        "non_tumor": (1, 5),
        "strong": (1, 400),
        "unreadable": (1, 0),
        "weak": (1, 600),
    }
    assert summary["strong"].mean_p_strong == pytest.approx(0.9)
    assert summary["non_tumor"].mean_p_strong is None


def test_a_class_has_no_mean_probability_if_that_of_a_tile_was_not_computed(db, record):
    run_id = record()
    db.execute(
        "insert into tiles select run_id, 99, 0, tile_class, tumor_pixels, null, p_fold_1, null,"
        " null, null, null, null from tiles where run_id = ? and tile_class = 'strong'",
        [run_id],
    )
    summary = {each.tile_class: each for each in tile_summary(db, run_id)}
    assert summary["strong"].tiles == 2
    assert summary["strong"].mean_p_strong is None
    assert summary["weak"].mean_p_strong is not None


def test_timings_come_longest_first(db, record):
    run_id = record(timings=[StepTiming("hash", 0.5), StepTiming("tiles", 9.0)])
    assert timings_of_run(db, run_id) == [StepTiming("tiles", 9.0), StepTiming("hash", 0.5)]
    assert timings_of_run(db, run_id + 1) == []
