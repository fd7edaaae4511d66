"""Delivery of slides as a scanner writes them."""

import pytest

from her2d.simulator.plan import plan_cohort
from her2d.simulator.scanner import WriteStyle, deliver, run_scanner
from her2d.slides.integrity import check_integrity


@pytest.mark.parametrize("style", list(WriteStyle))
def test_every_style_delivers_the_same_bytes(tmp_path, style):
    source = tmp_path / "source.tif"
    source.write_bytes(bytes(range(256)) * 1500)
    deliver(source, tmp_path / "a.tif", style=style, bytes_per_second=1e6, sleep=lambda _: None)
    assert (tmp_path / "a.tif").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "source.tif"]


def sizes_while_written(tmp_path, style, size=400_000):
    """Return the size of the target at each wait, or None while it does not exist."""
    source, target = tmp_path / "source.tif", tmp_path / "a.tif"
    source.write_bytes(b"x" * size)
    sizes = []
    deliver(
        source,
        target,
        style=style,
        bytes_per_second=1e6,
        sleep=lambda _: sizes.append(target.stat().st_size if target.exists() else None),
    )
    return sizes


def test_a_file_written_in_place_grows_under_its_final_name(tmp_path):
    sizes = sizes_while_written(tmp_path, WriteStyle.IN_PLACE)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 400_000


def test_a_reserved_file_has_its_full_size_from_the_start(tmp_path):
    assert set(sizes_while_written(tmp_path, WriteStyle.RESERVED)) == {400_000}


def test_a_file_with_a_temporary_name_appears_only_when_complete(tmp_path):
    assert set(sizes_while_written(tmp_path, WriteStyle.TEMP_NAME)) == {None}


@pytest.mark.parametrize("size", [3_000, 400_000])
def test_bursts_pause_twice(tmp_path, size):
    assert (
        len(sizes_while_written(tmp_path, WriteStyle.BURSTS, size))
        == len(sizes_while_written(tmp_path, WriteStyle.IN_PLACE, size)) + 2
    )


def test_a_small_file_grows_in_several_steps_too(tmp_path):
    sizes = sizes_while_written(tmp_path, WriteStyle.IN_PLACE, 3_000)
    assert len(set(sizes)) > 10


@pytest.mark.slow
def test_a_scanner_delivers_complete_slides_one_by_one(tmp_path):
    plans = plan_cohort(2, 1, width=1100, height=1100)
    for delivered in run_scanner(tmp_path, plans, seed=0, bytes_per_second=1e9):
        assert check_integrity(delivered.path).completeness == "complete"
    assert sorted(path.stem for path in tmp_path.iterdir()) == [plan.name for plan in plans]
