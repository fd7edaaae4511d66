"""`her2d compare`."""

import shutil

import pytest


@pytest.fixture
def scanned_twice(laboratory, color_bundle, write_slide, tmp_path, monkeypatch):
    """Slide a is half strong: positive from 10 %, negative from 60 %. Slide b is all weak."""
    slides = [write_slide(["Sw"], "a.tif"), write_slide(["ww"], "b.tif")]
    laboratory.run("scan", *slides)
    strict = tmp_path / "strict"
    shutil.copytree(color_bundle.directory, strict)
    manifest = (strict / "manifest.toml").read_text().replace('version = "1"', 'version = "2"')
    (strict / "manifest.toml").write_text(f"{manifest}\n[decision]\nthreshold = 0.6\n")
    monkeypatch.setenv("HER2D_BUNDLE__PATH", str(strict))
    laboratory.run("scan", *slides)
    return laboratory


def test_two_bundles_are_compared_slide_by_slide(scanned_twice):
    comparison = scanned_twice.json("compare", "colors 1", "colors 2")
    assert (comparison["slides"], comparison["agreeing"]) == (2, 1)
    assert comparison["mean_difference"] == 0
    (slide,) = comparison["disagreements"]
    assert (slide["file_name"], slide["first_status"], slide["second_status"]) == (
        "a.tif",
        "positive",
        "negative",
    )


def test_the_table_shows_how_often_they_agree_and_on_which_slides_they_do_not(scanned_twice):
    printed = scanned_twice.run("compare", "colors 1", "colors 2").stdout
    assert "They agree on 1 of 2 slides (50.0 %)" in printed
    assert "a.tif" in printed
    assert "b.tif" not in printed


def test_bundles_without_a_common_slide_are_reported(laboratory, write_slide):
    laboratory.run("scan", write_slide(["S"]))
    assert "no slide in common" in laboratory.run("compare", "colors", "colors").stdout


def test_an_unknown_bundle_is_one_clear_line(scanned_twice, her2d):
    code, _, err = her2d("compare", "colors 1", "magic")
    assert (code, err) == (1, "her2d: No bundle 'magic' has scored a slide here.\n")
