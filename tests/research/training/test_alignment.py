"""IHC slides that are shifted, or of another piece of tissue."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from her2d.cli.app import app
from her2d.research.training.alignment import (
    Alignment,
    measure_alignment,
    shifted_tiles,
    write_alignments,
)
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.prepare import ExpressionSource, LabelRules, alignments, prepare
from her2d.research.training.tile_store import TileStore
from her2d.simulator.cohort import write_cohort
from her2d.simulator.motic import write_he_slide, write_ihc_slide
from her2d.simulator.paper_cohort import plan_paper_cohort
from her2d.simulator.plan import IhcSection, SlidePlan, plan_slide
from her2d.simulator.stain import DAB_THRESHOLD
from her2d.slides.reader import open_slide

PLAN = plan_slide("S1", 7, her2_status="positive", width=1100, height=1000)
OTHER = plan_slide("S2", 8, her2_status="positive", width=1100, height=1000)


def shifted(plan: SlidePlan, right: float, down: float) -> SlidePlan:
    return replace(plan, ihc=IhcSection(shift_x=right, shift_y=down))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H&E slide, its IHC slides at three places, and the IHC slide of another patient."""
    path = tmp_path_factory.mktemp("pairs")
    write_he_slide(PLAN, path / "he.tif")
    for name, plan in {
        "straight": PLAN,
        "near": shifted(PLAN, 4, -3),
        "far": shifted(PLAN, 40, -60),
        "other": OTHER,
    }.items():
        write_ihc_slide(plan, path / f"{name}.tif")
    return path


def alignment(folder: Path, name: str) -> Alignment:
    with open_slide(folder / "he.tif") as he, open_slide(folder / f"{name}.tif") as ihc:
        found = measure_alignment(he, ihc)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right_px", "down_px", "verdict"),
    [("straight", 0, 0, "aligned"), ("near", 4, -3, "aligned"), ("far", 40, -60, "shifted")],
)
def test_a_known_shift_is_measured_in_pixels_and_micrometres(
    folder, name, right_px, down_px, verdict
):
    found = alignment(folder, name)
    assert (found.right_px, found.down_px) == pytest.approx((right_px, down_px), abs=2.5)
    assert (found.right_um, found.down_um) == pytest.approx((2.5 * right_px, 2.5 * down_px), abs=6)
    assert found.verdict == verdict


@pytest.mark.slow
def test_another_patients_slide_is_a_misfit(folder):
    assert alignment(folder, "other").verdict == "misfit"


def test_one_figure_that_is_too_low_is_a_misfit():
    fine = Alignment(0.95, 0.8, 0, 0, 2.5)
    assert fine.verdict == "aligned"
    assert replace(fine, dice=0.6).verdict == "misfit"
    assert replace(fine, correlation=0.2).verdict == "misfit"
    assert replace(fine, correlation=0.2, right_px=100).verdict == "misfit"


@pytest.mark.parametrize(
    ("right", "down", "words"),
    [
        (20, 12, "50 um to the right of and 30 um below"),
        (-20, -12, "50 um to the left of and 30 um above"),
    ],
)
def test_a_shift_is_described_in_micrometres(right, down, words):
    assert Alignment(0.95, 0.8, right, down, 2.5).describe_shift() == words


@pytest.mark.parametrize(
    ("right", "down"), [(0, 0), (40, -60), (-512, 512), (700, 30), (-3000, 0), (5, 1500)]
)
def test_a_shifted_tile_is_joined_from_those_it_lies_on(tmp_path, right, down):
    rng = np.random.default_rng(4)
    image = rng.integers(0, 200, (1100, 1400, 3), np.uint8)
    path = tmp_path / "ihc.tif"
    description = "Motic V1.0.0\n1400x1100 [0,0 1400x1100] [512x512] none|AppMag = 4|MPP = 2.5"
    tifffile.imwrite(
        path, image, tile=(512, 512), photometric="rgb", description=description, metadata=None
    )
    around = np.full((1100 + 2 * 3072, 1400 + 2 * 3072, 3), 255, np.uint8)
    around[3072 : 3072 + 1100, 3072 : 3072 + 1400] = image
    with open_slide(path) as ihc:
        grid = ihc.grid
        tiles = list(shifted_tiles(ihc, grid, right, down))
    assert [(t.column, t.row) for t in tiles] == [
        (column, row) for row in range(grid.rows) for column in range(grid.columns)
    ]
    for tile in tiles:
        left, top = 3072 + tile.column * 512 + right, 3072 + tile.row * 512 + down
        assert np.array_equal(tile.pixels, around[top : top + 512, left : left + 512])


def test_the_record_names_each_slide_and_its_verdict(tmp_path):
    write_alignments(
        tmp_path / "alignment.csv",
        {
            "S1": Alignment(0.95, 0.8, 20, -12, 2.5),
            "S2": Alignment(0.5, 0.1, 3, 1, 2.5),
            "S3": None,
        },
    )
    with (tmp_path / "alignment.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["slide"], row["verdict"]) for row in rows] == [
        ("S1", "shifted"),
        ("S2", "misfit"),
        ("S3", "not measured"),
    ]
    assert (rows[0]["right_um"], rows[0]["down_um"]) == ("50.0", "-30.0")


def slide(folder: Path, ihc: str) -> CohortSlide:
    mask = folder / "all.tif"
    if not mask.exists():
        tifffile.imwrite(mask, np.ones((PLAN.height, PLAN.width), np.uint8))
    return CohortSlide(
        name="S1",
        patient="P1",
        he_path=folder / "he.tif",
        ihc_path=folder / f"{ihc}.tif",
        annotation_path=mask,
        her2_status=Status.POSITIVE,
        split=Split.TRAIN,
        morphology={},
    )


def labels(
    cohort_slide: CohortSlide, tiles: Path, rules: LabelRules
) -> tuple[list[int], list[str]]:
    """Prepare a slide, and return the strong pixels of its tiles and the notes."""
    notes: list[str] = []
    prepare([cohort_slide], tiles, rules, note=notes.append)
    store = TileStore(tiles, [cohort_slide.name])
    known = np.where(store.table.labelled, store.table.strong_pixels, -1)
    return known.tolist(), notes


BY_DAB = LabelRules(ExpressionSource.DAB, DAB_THRESHOLD)


@pytest.mark.slow
def test_a_shift_is_offered_and_align_corrects_it(folder, tmp_path):
    straight, none = labels(slide(folder, "straight"), tmp_path / "straight", BY_DAB)
    assert none == []
    shifted, (note,) = labels(slide(folder, "far"), tmp_path / "far", BY_DAB)
    assert note.startswith("The tissue on the IHC slide of S1 lies ")
    assert note.endswith("its place on the H&E slide. To correct it, prepare with --align.")
    aligned, none = labels(slide(folder, "far"), tmp_path / "aligned", replace(BY_DAB, align=True))
    assert none == []
    most = 512 * 512
    wrong = [np.abs(np.subtract(found, straight)).max() / most for found in (shifted, aligned)]
    assert wrong[1] < 0.02 < wrong[0]


@pytest.mark.slow
def test_expression_is_not_taken_from_another_piece_of_tissue(folder, tmp_path):
    found, (note,) = labels(slide(folder, "other"), tmp_path / "tiles", BY_DAB)
    assert set(found) == {-1}
    assert note.startswith(
        "The IHC slide of S1 does not show the same piece of tissue as its H&E slide"
    )
    assert note.endswith("Its expression is not used.")
    recorded = alignments([slide(folder, "other")], tmp_path / "tiles")["S1"]
    assert recorded is not None
    assert recorded.verdict == "misfit"


@pytest.mark.slow
def test_a_misfit_is_named_also_where_expression_is_annotated(folder, tmp_path):
    found, (note,) = labels(slide(folder, "other"), tmp_path / "tiles", LabelRules())
    assert "does not show the same piece of tissue" in note
    assert len(found) > 2


def test_an_unreadable_ihc_slide_does_not_stop_labels_that_do_not_need_it(write_slide, tmp_path):
    (tmp_path / "ihc.tif").write_bytes(b"not a slide")
    tifffile.imwrite(tmp_path / "all.tif", np.ones((512, 1024), np.uint8))
    bare = slide(tmp_path, "ihc").model_copy(update={"he_path": write_slide(["wS"])})
    found, (note,) = labels(bare, tmp_path / "tiles", LabelRules())
    assert len(found) == 2
    assert note.startswith("The IHC slide of S1 was not compared with its H&E slide")


def test_align_without_dab_is_refused(write_slide, tmp_path):
    write_slide(["w"], "he.tif")
    tifffile.imwrite(tmp_path / "all.tif", np.ones((512, 512), np.uint8))
    (tmp_path / "cohort.csv").write_text(
        "slide,patient,he_path,annotation_path,ihc_score,fish,split\n"
        "S1,P1,he.tif,all.tif,3+,,train\n"
    )
    done = CliRunner().invoke(
        app, ["prepare", str(tmp_path / "cohort.csv"), "--study", str(tmp_path / "s"), "--align"]
    )
    assert done.exit_code == 1
    assert str(done.exception) == "--align only has an effect with --expression dab."


@pytest.mark.slow
def test_a_hard_cohort_is_prepared_and_its_shifts_are_recorded(tmp_path):
    plans = [
        replace(plan, magnification=4.0, width=1024, height=1024)
        for plan in plan_paper_cohort(4, 1, positive_fraction=0.5)
    ]
    write_cohort(tmp_path, plans)
    study = tmp_path / "study"
    options = ["--expression", "dab", "--dab-threshold", str(DAB_THRESHOLD), "--align"]
    done = CliRunner().invoke(
        app, ["prepare", str(tmp_path / "cohort.csv"), "--study", str(study), *options]
    )
    assert done.exit_code == 0, done.output
    with (study / "alignment.csv").open(newline="") as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    for plan in plans:
        row = rows[plan.name]
        assert row["verdict"] in ("aligned", "shifted")
        assert float(row["right_um"]) == pytest.approx(2.5 * plan.ihc.shift_x, abs=8)
        assert float(row["down_um"]) == pytest.approx(2.5 * plan.ihc.shift_y, abs=8)
