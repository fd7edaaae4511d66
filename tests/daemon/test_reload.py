"""Settings that a reload changes in a running daemon."""

from pathlib import Path

from her2d.daemon.reload import merged
from her2d.settings import (
    BundleSettings,
    IntakeSettings,
    OpsSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)


def test_equal_settings_change_nothing():
    change = merged(Settings(), Settings())
    assert (change.settings, change.changed, change.waiting) == (Settings(), (), ())


def test_intake_settings_change_at_once():
    change = merged(Settings(), Settings(intake=IntakeSettings(inboxes=(Path("/a"),), poll_s=3)))
    assert change.settings.intake.inboxes == (Path("/a"),)
    assert change.changed == ("intake.inboxes", "intake.poll_s")
    assert change.waiting == ()


def test_settings_read_only_at_start_wait_for_the_next_start():
    wanted = Settings(
        results=ResultsSettings(database=Path("/other.sqlite")),
        bundle=BundleSettings(path=Path("/other"), calibration=Path("/signed.toml")),
        pipeline=PipelineSettings(queue_tiles=1),
        intake=IntakeSettings(assume_magnification=40),
    )
    change = merged(Settings(), wanted)
    assert change.settings == Settings()
    assert set(change.waiting) == {
        "results.database",
        "bundle.path",
        "bundle.calibration",
        "pipeline.queue_tiles",
        "intake.assume_magnification",
    }


def test_a_reload_applies_the_settings_that_can_change_and_names_the_others():
    wanted = Settings(
        ops=OpsSettings(log_level="debug", port=1), pipeline=PipelineSettings(drain_s=1)
    )
    change = merged(Settings(), wanted)
    assert change.settings.ops.log_level == "debug"
    assert change.settings.ops.port == Settings().ops.port
    assert change.changed == ("pipeline.drain_s", "ops.log_level")
    assert change.waiting == ("ops.port",)
