"""Plans that follow Table 1 of the paper, and cohorts on disk."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.training.annotations import read_annotation
from her2d.research.training.cohort import Split, read_cohort
from her2d.simulator.centers import SECOND
from her2d.simulator.cohort import (
    high_expression_fraction,
    write_cohort,
    write_table,
    write_truth,
)
from her2d.simulator.paper_cohort import plan_paper_cohort
from her2d.simulator.plan import (
    AnnotationNoise,
    Histology,
    SlidePlan,
    plan_cohort,
    plan_slide,
)
from her2d.simulator.render import render_region
from her2d.slides.integrity import check_integrity
from her2d.slides.reader import open_slide

pytestmark = pytest.mark.slow


def test_a_large_cohort_has_the_papers_statistics():
    plans = plan_cohort(646, 1)
    assert sum(plan.her2_status == "positive" for plan in plans) == 81
    poor = np.mean([plan.differentiation == "poor" for plan in plans])
    assert poor == pytest.approx(509 / 646, abs=0.05)
    patients = len({plan.patient for plan in plans})
    assert 646 - 45 < patients < 646


@given(st.integers(0, 60), st.integers(0, 1000))
def test_statuses_are_dealt_out_exactly(slides, seed):
    plans = plan_cohort(slides, seed)
    positive = sum(plan.her2_status == "positive" for plan in plans)
    expected = round(slides * 81 / 646)
    assert len(plans) == slides
    assert positive == (max(expected, 1) if slides >= 4 else expected)


def test_the_same_seed_gives_the_same_cohort():
    assert plan_cohort(20, 3) == plan_cohort(20, 3)


def test_another_seed_gives_slides_that_differ_in_more_than_their_names():
    seeds = [{plan.seed for plan in plan_cohort(20, seed)} for seed in (3, 4)]
    assert not set.intersection(*seeds)


def test_ihc_and_fish_imply_the_status_as_in_the_paper():
    for plan in plan_cohort(200, 2, positive_fraction=0.5):
        implied = plan.ihc_score == "3+" or (plan.ihc_score, plan.fish) == ("2+", "positive")
        assert implied == (plan.her2_status == "positive")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("status", ["positive", "negative", "indeterminate"])
def test_the_planned_status_follows_from_the_truth(tmp_path, status, seed):
    plan = plan_slide("a", seed, her2_status=status, width=1536, height=1536)
    p = high_expression_fraction(write_truth(plan, tmp_path))
    called = "indeterminate" if p is None else "positive" if p >= 0.1 else "negative"
    assert called == status


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    plans = plan_cohort(3, 5, positive_fraction=0.4, width=1400, height=1100)
    done = []
    write_cohort(folder, plans, progress=done.append)
    assert done == plans
    return folder, plans


def test_the_files_of_the_table_are_complete_slides(cohort):
    folder, plans = cohort
    with (folder / "cohort.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["slide"] for row in rows] == [plan.name for plan in plans]
    for row in rows:
        for column in ("he_path", "ihc_path"):
            assert check_integrity(folder / row[column]).completeness == "complete"


RENDER_DURING_BLAS = """
import pathlib, sys, threading
import numpy as np
from her2d.simulator.cohort import write_cohort
from her2d.simulator.plan import plan_cohort

def multiply():
    matrix = np.ones((600, 600))
    while True:
        matrix @ matrix

for _ in range(2):
    threading.Thread(target=multiply, daemon=True).start()
write_cohort(pathlib.Path(sys.argv[1]), plan_cohort(2, 1, width=512, height=512), workers=2)
"""


@pytest.mark.slow
def test_a_cohort_that_was_stopped_in_the_middle_has_no_table(tmp_path):
    """The table of an earlier cohort in the folder would name slides of both."""
    plans = plan_cohort(2, 3, width=1024, height=1024)
    write_table(tmp_path / "cohort.csv", plans)

    def stop(plan: SlidePlan) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path, plans, progress=stop)
    assert (tmp_path / "he" / f"{plans[0].name}.tif").is_file()
    assert not (tmp_path / "cohort.csv").exists()


def test_processes_render_while_other_threads_use_blas(tmp_path):
    """A fork at such a moment does not return."""
    subprocess.run([sys.executable, "-c", RENDER_DURING_BLAS, tmp_path], check=True, timeout=120)
    with (tmp_path / "cohort.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_slides_are_motic_files_with_their_barcode(cohort):
    folder, plans = cohort
    for plan in plans:
        with open_slide(folder / "he" / f"{plan.name}.tif") as slide:
            assert slide.metadata.vendor == "motic"
            assert slide.metadata.barcode == plan.barcode
            assert (slide.grid.width, slide.grid.height) == (plan.width, plan.height)


def test_tile_truth_agrees_with_the_mask(cohort):
    folder, plans = cohort
    for plan in plans:
        mask = tifffile.imread(folder / "truth" / f"{plan.name}.tif")
        assert mask.shape == (plan.height, plan.width)
        with (folder / "truth" / f"{plan.name}.tiles.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert sum(int(row["tumor_pixels"]) for row in rows) == (mask > 0).sum()
        assert sum(int(row["strong_pixels"]) for row in rows) == (mask == 2).sum()


def test_a_40x_slide_has_the_same_4x_grid_and_pixels(tmp_path):
    from her2d.simulator.motic import write_he_slide

    plan = plan_slide("a", 3, her2_status="positive", width=600, height=520, magnification=40.0)
    write_he_slide(plan, tmp_path / "a.tif")
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.metadata.magnification == 40.0
        assert (slide.grid.columns, slide.grid.rows) == (2, 2)
        tile = next(slide.tiles())
    expected = render_region(plan, 0, 0, 512, 512).rgb
    assert np.abs(tile.pixels.astype(int) - expected).mean() < 14


@pytest.mark.parametrize(
    ("magnification", "scale", "um_per_px"),
    [(20.0, 1.0, 2.5), (20.0, 0.92, 2.5), (20.0, 1.04, 2.6), (4.0, 0.96, 2.4), (4.0, 1.06, 2.5)],
)
def test_slides_of_other_scales_have_the_grid_of_their_truth_and_their_ihc(
    tmp_path, magnification, scale, um_per_px
):
    plan = SlidePlan(
        "a",
        "P",
        3,
        620,
        530,
        "positive",
        0.5,
        magnification=magnification,
        ihc_score="3+",
        scale=scale,
        histology=Histology(),
        annotation=AnnotationNoise(0.0, 0.0),
        center=SECOND,
    )
    write_cohort(tmp_path, [plan])
    (slide,) = read_cohort(tmp_path / "cohort.csv")
    with open_slide(slide.he_path) as he, open_slide(slide.ihc_path) as ihc:
        assert he.grid.um_per_px == pytest.approx(um_per_px)
        assert ihc.grid.um_per_px == pytest.approx(um_per_px, rel=1e-3)
        assert (ihc.grid.width, ihc.grid.height) == (he.grid.width, he.grid.height)
        drawn = read_annotation(slide.annotation_path, he.grid).tile(0, 0).tumor
        pixels = next(he.tiles()).pixels
    at = 10 / um_per_px
    region = render_region(plan, 0, 0, 512, 512, magnification=at)
    assert (drawn == region.tumor).mean() > 0.999
    assert np.abs(pixels.astype(int) - region.rgb).mean() < 16


def test_the_table_of_a_hard_cohort_is_read_by_prepare_and_says_what_is_drawn(tmp_path):
    plans = plan_paper_cohort(4, 1, width=1024, height=1024)
    for plan in plans:
        for folder in ("he", "ihc", "annotations"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{plan.name}.tif").touch()
    write_table(tmp_path / "cohort.csv", plans)
    slides = read_cohort(tmp_path / "cohort.csv")
    assert {slide.split for slide in slides} == set(Split)
    for slide, plan in zip(slides, plans, strict=True):
        assert slide.her2_status == plan.her2_status
        assert slide.morphology["center"] == plan.center.name
        assert slide.morphology["age"] == str(plan.age)
        drawn = slide.morphology["papillary_differentiation"] == "present"
        assert drawn == (plan.histology.papillary > 0)


@pytest.mark.parametrize(("magnification", "width"), [(20.0, 1024), (4.0, 100)])
def test_an_unsupported_magnification_or_size_is_refused(magnification, width):
    with pytest.raises(ValueError, match=r"simulated"):
        plan_slide("a", 1, her2_status="positive", width=width, magnification=magnification)
