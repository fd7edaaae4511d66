"""Free space for results, and errors of storage that is away."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.system.disk_space import least_free_mb, should_pause
from her2d.system.filesystems import needs_polling
from her2d.system.io_errors import is_away, is_gone, may_be_the_share


@pytest.mark.parametrize(
    ("free", "paused", "expected"),
    [
        (2000, False, False),
        (999, False, True),
        (1000, False, False),
        (1050, True, True),
        (1101, True, False),
    ],
)
def test_intake_pauses_below_the_limit_and_resumes_a_little_above(free, paused, expected):
    assert should_pause(free, 1000, paused=paused) is expected


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_intake_that_pauses_does_not_resume_at_once(free, limit):
    if should_pause(free, limit, paused=False):
        assert should_pause(free, limit, paused=True)


def test_a_missing_folder_has_the_free_space_of_its_parent(tmp_path):
    assert least_free_mb([tmp_path / "not" / "yet"]) == pytest.approx(
        least_free_mb([tmp_path]), rel=0.05
    )


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ESTALE, errno.EACCES, errno.EHOSTDOWN])
def test_errors_of_a_busy_or_unreachable_share_mean_that_storage_is_away(code):
    assert is_away(OSError(code, "x"))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_errors_of_a_disk_do_not_mean_that_storage_is_away(code):
    assert not is_away(OSError(code, "x"))


def test_an_io_error_on_a_local_disk_is_not_blamed_on_a_share(tmp_path):
    if needs_polling(tmp_path, "auto"):
        pytest.skip("temporary files lie on a share")
    assert not may_be_the_share(OSError(errno.EIO, "x"), tmp_path / "a.tif")


def test_an_io_error_on_an_unknown_file_system_may_come_from_a_share():
    assert may_be_the_share(OSError(errno.EIO, "x"), Path("/nonexistent/share/a.tif"))


def test_a_file_is_gone_only_if_it_certainly_does_not_exist(tmp_path):
    (tmp_path / "a.tif").touch()
    assert not is_gone(tmp_path / "a.tif")
    assert is_gone(tmp_path / "b.tif")
    assert not is_gone(tmp_path / "a.tif" / "below a file")
