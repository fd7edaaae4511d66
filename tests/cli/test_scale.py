"""A scan at a wrong scale is never called negative, and a doubtful scale is shown everywhere."""

import json

import cv2
import numpy as np
import pytest
import tifffile

from her2d.db.connection import open_readonly
from her2d.results.listing import list_results
from her2d.simulator.plan import plan_slide
from her2d.simulator.render import render_region

WEAK = (60, 20, 120)  # tumour that the test's bundle calls negative


def write_scan(path, image, statement, *, resolution_um=None):
    """Write a Motic scan that states what `statement` says, with resolution tags or without."""
    height, width = image.shape[:2]
    size = f"{width}x{height}"
    tags = {}
    if resolution_um is not None:
        tags = {"resolution": (10_000 / resolution_um,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path,
        image,
        tile=(512, 512),
        compression="jpeg",
        photometric="rgb",
        metadata=None,
        description=f"Motic V1.0.0\n{size} [0,0 {size}] [512x512] JPEG/RGB Q = 75|{statement}",
        **tags,
    )
    return path


def tissue(pixels):
    grain = np.random.default_rng(0).integers(-30, 30, (pixels, pixels, 3))
    return np.clip(grain + WEAK, 0, 255).astype(np.uint8)  # without grain it would be blurred


def simulated(um_per_px):
    """Render a slide with tumour as a camera of that resolution sees it."""
    plan = plan_slide("coarse", 5, her2_status="positive", width=1024, height=1024)
    side = round(1024 * 2.5 / um_per_px)
    image = render_region(plan, 0, 0, 1024, 1024).rgb
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("statement", "resolution_um"),
    [("AppMag = 4|MPP = 3.57", None), ("MPP = 3.57", None), ("AppMag = 4", 3.57)],
)
def test_a_slide_at_4x_with_3_57_um_per_pixel_is_never_negative(
    statement, resolution_um, her2d, laboratory, tmp_path
):
    path = write_scan(tmp_path / "a.tif", simulated(3.57), statement, resolution_um=resolution_um)
    _, _, err = her2d("scan", path)
    found = list_results(open_readonly(laboratory.database))
    if resolution_um is None:
        assert found == []
        assert "a.tif was scanned at 3.57 um/px, coarser than the 4x (2.5 um/px)" in err
        (job,) = laboratory.json("queue", "ls", "--state", "quarantined")
        assert "scan it again at a higher magnification" in job["reason"]
        return
    (result,) = found
    assert (result.her2_status, result.reason_code) == ("indeterminate", "wrong-scale")
    assert (result.high_expression_percent, result.ci_low, result.borderline) == (None, None, False)
    assert result.reason == (
        "The file states 3.57 um/px (resolution tags), and AppMag = 4 means about 2.5 um/px. One"
        " of them is wrong: set assume_magnification in config.toml to the right magnification."
    )


def test_slides_at_a_wrong_scale_are_found_by_their_reason(her2d, laboratory, tmp_path):
    write_scan(tmp_path / "good.tif", tissue(600), "AppMag = 4|MPP = 2.5")
    write_scan(tmp_path / "bad.tif", tissue(600), "AppMag = 4", resolution_um=1.25)
    code, _, err = her2d("scan", tmp_path / "good.tif", tmp_path / "bad.tif")
    assert (code, err) == (0, "")
    found = laboratory.json("results", "--reason", "wrong-scale")
    assert [result["file_name"] for result in found] == ["bad.tif"]


def test_an_enlarged_scan_is_called_and_flagged_everywhere(her2d, laboratory, tmp_path):
    # Enlarged, it fills one tile: padding would look strong to the test's bundle.
    path = write_scan(tmp_path / "a.tif", tissue(441), "AppMag = 4|MPP = 2.9")
    code, out, _ = her2d("scan", path)
    assert code == 0
    remark = (
        "The scan is 16 % coarser than the 2.5 um/px of the models. It was enlarged and lacks"
        " detail."
    )
    assert "16 % coarser than the 2.5 um/px" in " ".join(out.split())
    (result,) = laboratory.json("results", "--flag", "off-scale")
    assert (result["her2_status"], result["reason_code"]) == ("negative", None)
    assert (result["um_per_px"], result["mpp"]) == (pytest.approx(2.5), 2.9)
    assert result["scale_remark"] == remark
    assert "off-scale" in result["quality_flags"]
    assert (result["magnification"], result["magnification_source"]) == (10 / 2.9, "MPP")
    shown = laboratory.run("show", "a").stdout
    assert "off-scale" in shown
    assert "um_per_px" in shown
    laboratory.run("export", "a", "--format", "html", "-o", tmp_path / "a.html")
    assert f"2.5 um/px at 4x. {remark}" in (tmp_path / "a.html").read_text()
    laboratory.run("export", "a", "--format", "fhir", "-o", tmp_path / "a.json")
    entries = json.loads((tmp_path / "a.json").read_text())["entry"]
    (observation,) = (
        entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Observation"
    )
    assert {"text": remark} in observation["note"]


def test_a_scale_by_the_objective_alone_is_not_doubtful_but_the_report_says_so(
    her2d, laboratory, tmp_path
):
    her2d("scan", write_scan(tmp_path / "a.tif", tissue(600), "AppMag = 4"))
    (result,) = laboratory.json("results")
    assert (result["um_per_px"], result["mpp"], result["scale_remark"]) == (2.5, None, None)
    assert "off-scale" not in result["quality_flags"]
    laboratory.run("export", "a", "--format", "html", "-o", tmp_path / "a.html")
    assert "2.5 um/px at 4x, by the magnification only" in (tmp_path / "a.html").read_text()
