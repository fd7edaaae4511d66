"""The calibration of a bundle on a laboratory's own slides lies beside it, and is of it."""

import hashlib
import shutil

import pytest
import tomli_w
from calibrations import calibration_of, write_calibration

from her2d.bundle.loading import load_bundle
from her2d.bundle.site_calibration import CalibrationError, with_calibration


@pytest.fixture
def bundle(tmp_path, color_bundle):
    return load_bundle(shutil.copytree(color_bundle.directory, tmp_path / "engines" / "colors"))


def test_a_bundle_without_a_calibration_is_as_it_was(bundle):
    assert with_calibration(bundle, None) == bundle


def test_the_file_beside_the_bundle_is_its_calibration_and_leaves_its_digest(bundle):
    path = write_calibration(bundle, from_percent=2.5)
    assert path.name == "colors.calibration.toml"
    assert path.parent == bundle.directory.parent
    found = with_calibration(load_bundle(bundle.directory), None)
    assert found.digest == bundle.digest
    assert found.calibration.content.zone.from_percent == 2.5
    assert found.calibration.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_settings_may_name_another_place(bundle, tmp_path):
    write_calibration(bundle, from_percent=2.5)
    path = write_calibration(bundle, tmp_path / "signed.toml", from_percent=7)
    assert with_calibration(bundle, path).calibration.content.zone.from_percent == 7


def test_a_calibration_of_another_bundle_is_refused_with_the_way_out(bundle):
    path = write_calibration(bundle)
    path.write_text(path.read_text().replace(bundle.digest, "a" * 64))
    with pytest.raises(CalibrationError) as refused:
        with_calibration(bundle, None)
    assert str(refused.value) == (
        f"The calibration {path} is of colors 1 (digest aaaaaaaaaaaa…), and the bundle is colors 1"
        f" (digest {bundle.digest[:12]}…). Calibrate this bundle with her2d calibrate, or move the"
        " file away to run without a calibration."
    )


def test_a_calibration_that_the_settings_name_must_exist(bundle, tmp_path):
    with pytest.raises(CalibrationError, match=r"There is no calibration .*signed\.toml"):
        with_calibration(bundle, tmp_path / "signed.toml")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"signed_by": ""}, "signed_by: String should have at least 1 character"),
        ({"zone": {"from_percent": 12.0}}, "zone: from_percent must not be above below_percent"),
        ({"zone": {"sensitivity": 1.0}}, "zone.sensitivity: Input should be less than 1"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ],
)
def test_a_calibration_with_an_invalid_value_is_refused_with_its_key(bundle, changes, sentence):
    content = calibration_of(bundle)
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (bundle.directory.parent / "colors.calibration.toml").write_text(tomli_w.dumps(content))
    with pytest.raises(CalibrationError, match=sentence):
        with_calibration(bundle, None)


@pytest.mark.parametrize("data", [b"zone = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(bundle, data):
    (bundle.directory.parent / "colors.calibration.toml").write_bytes(data)
    with pytest.raises(CalibrationError, match="is not TOML"):
        with_calibration(bundle, None)


def test_a_calibration_that_cannot_be_read_is_refused(bundle):
    (bundle.directory.parent / "colors.calibration.toml").mkdir()
    with pytest.raises(CalibrationError, match="cannot be read: Is a directory"):
        with_calibration(bundle, None)
