"""What a scrape reads from the database, the disks and the pipeline."""

import errno
import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from calibrations import write_calibration
from many_slides import add_scored_slides

from her2d.bundle.loading import load_bundle
from her2d.bundle.site_calibration import with_calibration
from her2d.daemon.readings import Outcomes, read_daemon
from her2d.daemon.storage_probe import StorageProbe
from her2d.db.backup import back_up
from her2d.db.connection import open_database
from her2d.processing.identity import open_scan
from her2d.processing.processor import open_processor
from her2d.processing.recorder import Recorder
from her2d.processing.records import RunClock
from her2d.queue.job import BACKFILL, MOST_OF_INBOX, NEW_SCAN, Job
from her2d.queue.operator import forget, retry
from her2d.queue.store import JobQueue
from her2d.settings import (
    BundleSettings,
    InferenceSettings,
    IntakeSettings,
    ResultsSettings,
    Settings,
    WebhookSettings,
)
from her2d.system.file_identity import FileState
from her2d.system.gpus import Gpus
from her2d.webhook.outbox import Outbox


@pytest.fixture
def settings(tmp_path, color_bundle) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(inboxes=(tmp_path / "inbox",)),
        bundle=BundleSettings(path=color_bundle.directory),
        inference=InferenceSettings(threads=1),
        results=ResultsSettings(
            database=tmp_path / "her2d.sqlite",
            heatmaps=tmp_path / "not" / "yet" / "there",
            backups=tmp_path / "backups",
        ),
    )


@pytest.fixture
def db(settings):
    db = open_database(settings.results.database)
    yield db
    db.close()


def record_slide(processor, settings, db, slide):
    recorder = Recorder(processor.bundle, processor.software, settings.results.heatmaps)
    clock = RunClock(queued_at=None)
    with open_scan(slide) as scan:
        digest = processor.content_hash(scan)
        recorder.record(db, recorder.draw(processor.score(scan), digest, clock))


def read(settings, db, *slides, calibration=None):
    storage = StorageProbe(settings.intake.inboxes, settings.results.backups)
    with open_processor(load_bundle(settings.bundle.path), settings) as processor, closing(storage):
        for slide in slides:
            record_slide(processor, settings, db, slide)
        return read_daemon(
            settings,
            processor.pipeline,
            Outcomes(db),
            bundle=with_calibration(processor.bundle, calibration),
            gpus=Gpus(),
            storage=storage,
            progress_at=0.0,
            intake_paused=False,
        )


def test_a_new_database_has_no_results(settings, db):
    found = read(settings, db)
    assert found.day.results == 0
    assert found.day.positive_ratio is None
    assert (found.waiting, found.oldest_waiting_s, found.last_scan_at) == (0, 0.0, None)
    assert found.last_success_at is None


def test_results_are_summarised_over_the_day(settings, db, write_slide):
    slides = [write_slide(rows, f"{n}.tif") for n, rows in enumerate((["S"], ["w"], ["ws"]))]
    found = read(settings, db, *slides)
    assert found.day.results == 3
    assert found.day.positive_ratio == pytest.approx(1 / 3)
    assert found.day.tumor_tile_ratio == pytest.approx(3 / 4)
    assert found.day.high_expression == {0.25: 0.0, 0.5: 0.0, 0.75: 0.5}
    flags = {"blurred", "folded", "pen_marked", "stain_outlier", "off_scale"}
    assert set(found.day.flagged_ratio) == flags


def test_quality_flags_and_stain_are_summarised_over_the_day(settings, db, write_slide):
    read(settings, db, *(write_slide(["w"] * n, f"{n}.tif") for n in (1, 2, 3, 4)))
    db.execute(
        "update run_quality set folded = run_id = 1, stain_distance = run_id,"
        " saturation = 80 + run_id, saturation_distance = run_id / 2.0"
    )
    db.execute("update runs set scale_remark = 'The scan is coarse.' where id > 2")
    db.conn.commit()
    day = read(settings, db).day
    assert day.flagged_ratio["folded"] == 0.25
    assert day.flagged_ratio["off_scale"] == 0.5
    assert (day.stain_distance, day.saturation, day.saturation_distance) == (2.5, 82.5, 1.25)
    assert (day.results, day.stain_results, day.saturation_results) == (4, 4, 4)


def test_how_many_results_a_distance_rests_on_is_reported(settings, db, write_slide):
    read(settings, db, *(write_slide(["w"] * n, f"{n}.tif") for n in (1, 2, 3, 4)))
    db.execute("update run_quality set stain_distance = null where run_id > 1")
    db.execute("update run_quality set saturation_distance = null where run_id > 3")
    db.conn.commit()
    day = read(settings, db).day
    assert (day.results, day.stain_results, day.saturation_results) == (4, 1, 3)


def test_results_older_than_a_day_are_not_counted(settings, db, write_slide):
    read(settings, db, write_slide(["S"]))
    old = datetime.now(UTC) - timedelta(days=2)
    db.execute("update runs set finished_at = ?", [f"{old:%Y-%m-%dT%H:%M:%S.%fZ}"])
    db.conn.commit()
    found = read(settings, db)
    assert found.day.results == 0
    assert found.last_success_at == pytest.approx(old.timestamp(), abs=1)


def ago(**time: float) -> str:
    """Return a time in the past as the database stores it."""
    return f"{datetime.now(UTC) - timedelta(**time):%Y-%m-%dT%H:%M:%S.%fZ}"


def test_the_longest_wait_of_a_complete_file_is_reported(settings, db, tmp_path):
    jobs = JobQueue(db)
    for name in ("early.tif", "late.tif"):
        path = tmp_path / "inbox" / name
        jobs.queue(jobs.discover(path, tmp_path / "inbox", FileState(1, 2, 3)))
    db.execute("update jobs set queued_at = ? where file_name = 'early.tif'", [ago(hours=1)])
    db.conn.commit()
    found = read(settings, db)
    assert found.waiting == 2
    assert found.oldest_waiting_s == pytest.approx(3600, abs=60)
    assert found.last_scan_at == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


def found_hours_ago(db, jobs, path: Path, hours: float) -> Job:
    """Create a settling job of a file that was found that long ago."""
    job = jobs.discover(path, path.parent, FileState(1, 2, 3))
    db.execute(
        "update jobs set discovered_at = :at, settling_since = :at where id = :id",
        {"at": ago(hours=hours), "id": job.id},
    )
    db.conn.commit()
    return jobs.get(job.id)


def test_a_file_that_the_scanner_has_not_finished_does_not_wait_for_this_daemon(
    settings, db, tmp_path
):
    """As right after a restart: only the database says how long the file has been there."""
    found_hours_ago(db, JobQueue(db), tmp_path / "inbox" / "growing.tif", 2)
    found = read(settings, db)
    assert (found.waiting, found.overdue, found.oldest_waiting_s) == (1, 0, 0.0)
    assert found.oldest_unfinished_s == pytest.approx(7200, abs=60)


def test_the_wait_begins_when_the_file_is_complete(settings, db, tmp_path):
    jobs = JobQueue(db)
    jobs.queue(found_hours_ago(db, jobs, tmp_path / "inbox" / "slow-copy.tif", 5))
    found = read(settings, db)
    assert found.oldest_waiting_s < 60
    assert found.oldest_unfinished_s == 0.0


def test_a_file_that_changed_in_the_queue_is_unfinished_since_then(settings, db, tmp_path):
    jobs = JobQueue(db)
    jobs.queue(found_hours_ago(db, jobs, tmp_path / "inbox" / "a.tif", 5))
    jobs.settle_again(jobs.claim(), "It changed.")
    found = read(settings, db)
    assert (found.oldest_waiting_s, found.oldest_unfinished_s < 60) == (0.0, True)


def test_a_scan_of_last_month_whose_file_is_there_again_has_not_waited_since(
    settings, db, tmp_path
):
    jobs = JobQueue(db)
    path = tmp_path / "inbox" / "a.tif"
    jobs.mark_vanished(found_hours_ago(db, jobs, path, 24 * 30))
    jobs.queue(jobs.discover(path, path.parent, FileState(1, 2, 3)))
    assert read(settings, db).oldest_waiting_s < 60


def test_a_scan_of_an_inbox_with_a_low_priority_counts_as_backlog(settings, db, tmp_path):
    jobs = JobQueue(db)
    inbox = tmp_path / "inbox"
    jobs.discover(inbox / "old.tif", inbox, FileState(1, 2, 3), BACKFILL + MOST_OF_INBOX)
    jobs.discover(inbox / "new.tif", inbox, FileState(1, 2, 3), NEW_SCAN - MOST_OF_INBOX)
    db.execute("update jobs set state = 'queued', discovered_at = '2020-01-01T00:00:00.000000Z'")
    assert read(settings, db).oldest_waiting_s > 0
    db.execute("update jobs set state = 'done' where file_name = 'new.tif'")
    assert read(settings, db).oldest_waiting_s == 0.0


def test_back_fill_and_overdue_files_do_not_count_as_backlog(settings, db, tmp_path):
    jobs = JobQueue(db)
    inbox = tmp_path / "inbox"
    jobs.discover(inbox / "old.tif", inbox, FileState(1, 2, 3), BACKFILL)
    left = jobs.discover(inbox / "left.tif", inbox, FileState(1, 2, 3))
    jobs.report_overdue(left, "It stays incomplete.")
    db.execute("update jobs set discovered_at = '2020-01-01T00:00:00.000000Z'")
    db.conn.commit()
    found = read(settings, db)
    assert (found.waiting, found.overdue) == (2, 1)
    assert (found.oldest_waiting_s, found.oldest_unfinished_s) == (0.0, 0.0)


def test_a_quarantined_file_is_unresolved_until_it_is_scanned_again_or_forgotten(
    settings, db, tmp_path
):
    jobs = JobQueue(db)
    inbox = tmp_path / "inbox"
    for name in ("a.tif", "b.tif"):
        jobs.refuse(inbox / name, FileState(1, 2, 3), "It is a PNG.", inbox=inbox)
    assert read(settings, db).unresolved == 2
    forget(jobs, 1)
    assert read(settings, db).unresolved == 1
    jobs.discover(inbox / "b.tif", inbox, FileState(7, 8, 9))
    found = read(settings, db)
    assert (found.unresolved, found.jobs["quarantined"]) == (0, 1)


def test_the_wait_of_a_retry_begins_when_it_is_requested(settings, db, tmp_path):
    jobs = JobQueue(db)
    job = jobs.refuse(tmp_path / "a.tif", FileState(1, 2, 3), "It is a PNG.", inbox=tmp_path)
    db.execute("update jobs set discovered_at = '2020-01-01T00:00:00.000000Z'")
    db.conn.commit()
    retry(jobs, job.id)
    assert read(settings, db).oldest_waiting_s < 60


def test_other_readings_are_reported_if_the_database_cannot_be_read(settings, db):
    settings.results.database.rename(settings.results.database.with_name("away.sqlite"))
    found = read(settings, db)
    assert not found.database_readable
    assert (found.jobs, found.waiting, found.day.results) == ({}, None, None)
    assert {volume.holds for volume in found.volumes} == {"database", "heatmaps", "inbox"}


def test_events_that_the_webhook_has_not_sent_are_counted(settings, db, write_slide):
    assert read(settings, db).webhook_waiting is None
    Outbox(db).begin()
    with_webhook = settings.model_copy(
        update={"webhook": WebhookSettings(url="http://127.0.0.1:9/")}
    )
    assert read(with_webhook, db, write_slide(["w"])).webhook_waiting == 1
    outbox = Outbox(db)
    outbox.defer(outbox.next(), 60)
    assert read(with_webhook, db).webhook_waiting == 1
    assert Outbox(db).next() is None


def test_how_long_the_oldest_event_has_waited_is_reported(settings, db, tmp_path):
    Outbox(db).begin()
    jobs = JobQueue(db)
    jobs.refuse(tmp_path / "a.tif", FileState(1, 2, 3), "It is a PNG.", inbox=tmp_path)
    db.execute("update events set at = ?", [ago(hours=2)])
    db.conn.commit()
    assert read(settings, db).webhook_oldest_s is None
    with_webhook = settings.model_copy(
        update={"webhook": WebhookSettings(url="http://127.0.0.1:9/")}
    )
    assert read(with_webhook, db).webhook_oldest_s == pytest.approx(7200, abs=60)


def test_the_time_since_which_there_is_something_to_back_up_is_reported(settings, db, tmp_path):
    assert read(settings, db).first_event_at is None
    JobQueue(db).refuse(tmp_path / "a.tif", FileState(1, 2, 3), "It is a PNG.", inbox=tmp_path)
    found = read(settings, db)
    assert found.first_event_at == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


def test_the_time_of_the_last_backup_is_reported(settings, db):
    assert read(settings, db).last_backup_at is None
    made = back_up(settings.results.database, settings.results.backups)
    assert read(settings, db).last_backup_at == made.stat().st_mtime


def test_a_disk_that_cannot_be_read_is_left_out(settings, db, monkeypatch):
    really = shutil.disk_usage

    def away(folder):
        if folder == settings.intake.inboxes[0]:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return really(folder)

    monkeypatch.setattr(shutil, "disk_usage", away)
    assert [volume.holds for volume in read(settings, db).volumes] == ["database", "heatmaps"]


def test_disks_are_read_even_if_a_folder_does_not_exist_yet(settings, db):
    found = read(settings, db)
    assert [volume.holds for volume in found.volumes] == ["database", "heatmaps", "inbox"]
    assert all(0 < volume.free_bytes <= volume.size_bytes for volume in found.volumes)
    assert found.database_bytes > 0


def test_every_ended_job_is_counted_once(db, tmp_path):
    jobs = JobQueue(db)
    jobs.refuse(tmp_path / "before.tif", FileState(1, 2, 3), "It was before the daemon.")
    outcomes = Outcomes(db)
    assert sum(outcomes.advance(db).values()) == 0
    for number in range(3):
        jobs.refuse(tmp_path / f"{number}.tif", FileState(1, 2, 3), "It is not a slide.")
        outcomes.advance(db)
    assert outcomes.advance(db) == {
        "done": 0,
        "failed": 0,
        "postponed": 0,
        "quarantined": 3,
        "cancelled": 0,
        "duplicate": 0,
        "vanished": 0,
    }


def add_outcomes(db, outcomes):
    """Add an IHC score for the slides of those names; P is 10 points over the share by IHC."""
    for name, ihc in outcomes.items():
        db.execute(
            "insert into outcomes (slide_id, ihc, ihc_percent, imported_at, imported_by, source)"
            " select slides.id, ?, max(high_expression_percent - 10, 0), 't', 'li', 'ihc.csv'"
            " from slides join runs on runs.slide_id = slides.id and runs.is_current = 1"
            " where file_name = ?",
            [ihc, name],
        )
    db.conn.commit()


def test_without_outcomes_there_is_no_predictive_value_and_no_drift(settings, db, write_slide):
    found = read(settings, db, write_slide(["S"])).ihc
    assert found.outcomes == {"positive": 0, "negative": 0, "equivocal": 0}
    assert [(value.slides, value.value) for value in found.predictive_values] == [(0, None)] * 2
    assert found.drifts == ()


def test_calls_are_compared_with_what_ihc_says_since(settings, db, write_slide):
    read(settings, db, write_slide(["S"]))
    names = add_scored_slides(settings.results.database, [40] * 10 + [2] * 30)
    scores = ["3+"] * 8 + ["0"] * 2 + ["0"] * 28 + ["3+", "2+"]
    add_outcomes(db, dict(zip(names, scores, strict=True)))
    found = read(settings, db).ihc
    assert found.outcomes == {"positive": 9, "negative": 30, "equivocal": 1}
    ppv, npv = found.predictive_values
    assert (ppv.call, ppv.slides, ppv.value) == ("positive", 10, 0.8)
    assert (ppv.low, ppv.high) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert (npv.call, npv.slides, npv.value) == ("negative", 29, pytest.approx(28 / 29))
    calls, share = found.drifts
    assert (calls.of, calls.slides, calls.value) == ("calls", 39, pytest.approx(1 / 39))
    assert calls.standard_error > 0.02
    assert (share.of, share.value) == ("share", pytest.approx((10 * 0.1 + 29 * 0.02) / 39))


def test_drift_is_counted_from_what_was_measured_at_the_calibration(
    settings, db, write_slide, tmp_path
):
    read(settings, db, write_slide(["S"]))
    add_outcomes(db, dict.fromkeys(add_scored_slides(settings.results.database, [2] * 60), "0"))
    path = write_calibration(load_bundle(settings.bundle.path), tmp_path / "signed.toml")
    plain, since = (read(settings, db, calibration=c).ihc.drifts[0] for c in (None, path))
    assert plain.value == 0
    assert since.value == pytest.approx(-0.02)  # the calibration's bias is 2 points
    assert since.standard_error > plain.standard_error


def test_only_the_newest_500_outcomes_count(settings, db, write_slide):
    read(settings, db, write_slide(["S"]))
    names = add_scored_slides(settings.results.database, [40] * 520)
    add_outcomes(db, dict.fromkeys(names[:20], "0") | dict.fromkeys(names[20:], "3+"))
    (ppv, _) = read(settings, db).ihc.predictive_values
    assert (ppv.slides, ppv.value) == (500, 1.0)


def test_the_share_of_slides_sent_to_ihc_is_of_those_scored_with_a_calibration(
    settings, db, write_slide
):
    read(settings, db, *(write_slide(["w"] * n, f"{n}.tif") for n in (1, 2, 3)))
    assert read(settings, db).day.send_to_ihc_ratio is None
    db.execute("update runs set send_to_ihc = id = 1 where id < 3")
    db.conn.commit()
    assert read(settings, db).day.send_to_ihc_ratio == 0.5
