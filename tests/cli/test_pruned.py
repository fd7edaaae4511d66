"""What is said of a slide whose tile rows were deleted."""

from pathlib import Path

import pytest

from her2d.db.connection import open_readonly
from her2d.results.export.report import report_html
from her2d.results.overlay import overlaid_slide, transparent_overlay
from her2d.results.stored_run import TilesPruned, read_run


@pytest.fixture
def pruned(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "a.tif"))
    before = laboratory.json("show", "a.tif")
    assert laboratory.run("db", "prune", "--days", 0).exit_code == 0
    after = laboratory.json("show", "a.tif")
    assert {name: after[name] for name in before if name not in ("tiles", "acts")} == {
        **{name: before[name] for name in before if name not in ("tiles", "acts")},
        "tiles_pruned_at": after["tiles_pruned_at"],
    }
    return laboratory


def test_show_says_that_the_tiles_were_deleted_and_not_that_all_is_background(pruned):
    shown = pruned.run("show", "a.tif").stdout
    assert "The tile rows of a.tif were deleted on 20" in shown
    assert "her2d db prune" in shown
    assert "background" not in shown
    assert pruned.json("show", "a.tif")["tiles_pruned_at"] is not None


@pytest.mark.parametrize("kind", ["geojson", "csv", "parquet", "ome-tiff"])
def test_an_export_that_needs_the_tiles_is_refused_and_names_the_heatmap(
    pruned, her2d, tmp_path, kind
):
    output = tmp_path / "out"
    code, _, error = her2d("export", "a.tif", "--format", kind, "-o", output)
    assert code == 1
    assert "were deleted on" in error
    assert pruned.json("show", "a.tif")["heatmap_path"] in error
    assert not output.exists()


@pytest.mark.parametrize("kind", ["png", "html", "fhir"])
def test_an_export_that_needs_no_tiles_works(pruned, tmp_path, kind):
    output = tmp_path / "out"
    assert pruned.run("export", "a.tif", "--format", kind, "-o", output).exit_code == 0
    assert output.stat().st_size > 0


def test_no_picture_is_drawn_without_the_tiles(pruned):
    db = open_readonly(pruned.database)
    run = read_run(db, pruned.json("show", "a.tif")["run_id"])
    for draw in (overlaid_slide, transparent_overlay):
        with pytest.raises(TilesPruned):
            draw(run, run.pictures())
    assert "HER2" in report_html(run)
    assert Path(run.result.heatmap_path or "").is_file()
    db.close()


def test_a_slide_without_tissue_has_no_rows_and_is_not_said_to_be_pruned(laboratory, write_slide):
    laboratory.run("scan", write_slide(["..", ".."], "empty.tif"))
    assert laboratory.run("db", "prune", "--days", 0).exit_code == 0
    assert laboratory.json("show", "empty.tif")["tiles_pruned_at"] is None
