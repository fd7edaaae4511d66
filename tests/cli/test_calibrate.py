"""`her2d calibrate`, and what the daemon's way of scoring does with what it writes."""

import shutil
import tomllib

import pytest
from calibrations import write_calibration
from many_slides import add_scored_slides

from her2d.bundle.loading import load_bundle

# 40 HER2-positive slides, of which two have a P below the threshold, and 60 negative ones.
POSITIVE = [3.0, 6.0, *range(20, 58)]
NEGATIVE = [*(0.05 * n for n in range(56)), 4.0, 5.0, 12.0, 15.0]


@pytest.fixture
def bundle(laboratory, color_bundle, monkeypatch):
    """The laboratory's own copy of the bundle, beside which a file may be written."""
    folder = laboratory.folder / "engines" / "colors"
    shutil.copytree(color_bundle.directory, folder)
    monkeypatch.setenv("HER2D_BUNDLE__PATH", str(folder))
    return load_bundle(folder)


@pytest.fixture
def scored(laboratory, bundle, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "model.tif"))
    add_scored_slides(laboratory.database, [*POSITIVE, *NEGATIVE])
    return laboratory


@pytest.fixture
def outcomes(tmp_path):
    """A CSV of the slides' outcomes, with a share by IHC that is two points below P."""
    rows = ["slide,ihc,fish,ihc_percent"]
    for number, p in enumerate([*POSITIVE, *NEGATIVE]):
        ihc = "3+" if number < len(POSITIVE) else "0"
        rows.append(f"m{number:03},{ihc},,{max(p - 2, 0)}")
    rows.append("model,2+,,")
    path = tmp_path / "ihc.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def file_of(bundle):
    return bundle.directory.with_name("colors.calibration.toml")


def test_without_a_signature_it_says_what_was_measured_and_writes_nothing(
    scored, bundle, outcomes, her2d
):
    code, out, err = her2d("calibrate", "--outcomes", outcomes)
    assert (code, err) == (0, "")
    assert "colors 1 on 100 slides of 100 patients, 40 HER2-positive" in out
    assert "95.0 % (83.5 to 98.6 %)" in out  # sensitivity of the calls: 38 of 40
    assert "Counted in no rate: 1 equivocal (IHC 2+ without FISH)." in out
    assert "Slides called negative with P of 6 % or more are sent to IHC: 1.0 % of" in out
    assert "Nothing was written." in out
    assert not file_of(bundle).exists()


def test_a_signed_calibration_lies_beside_the_bundle_and_leaves_its_digest(
    scored, bundle, outcomes, her2d
):
    code, out, _ = her2d("calibrate", "--outcomes", outcomes, "--signed-by", "Dr A. Li")
    assert code == 0
    assert f"Wrote {file_of(bundle)}. The daemon uses it from its next start on." in out
    content = tomllib.loads(file_of(bundle).read_text())
    assert content["signed_by"] == "Dr A. Li"
    assert content["bundle_digest"] == bundle.digest == load_bundle(bundle.directory).digest
    assert content["slides"]["called"] == 100
    assert content["slides"]["equivocal"] == 1
    zone = content["zone"]
    assert (zone["sensitivity"], zone["from_percent"], zone["below_percent"]) == (0.95, 6.0, 10.0)
    assert zone["positive_patients"] == 40
    assert content["measured"]["sensitivity"]["value"] == 0.95
    assert content["measured"]["call_bias_points"]["value"] == 0.0
    assert content["measured"]["covered"]["value"] == 1.0
    assert 1 < content["measured"]["share_bias_points"]["value"] < 2


def test_outcomes_that_were_imported_need_not_be_given_again(scored, bundle, outcomes):
    scored.run("outcomes", "import", outcomes)
    imported, given = scored.json("calibrate"), scored.json("calibrate", "--outcomes", outcomes)
    assert imported == given
    assert imported["zone"]["from_percent"] == 6.0
    assert imported["file"] is None


def test_too_few_positive_slides_are_refused_in_one_sentence_after_what_was_measured(
    scored, bundle, outcomes, her2d
):
    code, out, err = her2d(
        "calibrate", "--outcomes", outcomes, "--sensitivity", "0.99", "--signed-by", "Dr A. Li"
    )
    assert code == 1
    assert "colors 1 on 100 slides" in out
    assert err == (
        "her2d: A sensitivity of 99 % needs HER2-positive slides of 99 patients that the bundle has"
        " called, and there are 40. They are enough for 97.5 %.\n"
    )
    assert not file_of(bundle).exists()
    found = scored.json("calibrate", "--outcomes", outcomes, "--sensitivity", "0.99")
    assert found["zone"] is None
    assert found["error"].startswith("A sensitivity of 99 %")


def test_slides_of_another_bundle_are_not_compared(scored, bundle, outcomes, her2d):
    manifest = bundle.directory / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('version = "1"', 'version = "2"'))
    code, _, err = her2d("calibrate", "--outcomes", outcomes)
    assert code == 1
    assert err == (
        "her2d: None of the 101 slides with an outcome can be compared with colors 2: 101 not"
        " scored by this bundle.\n"
    )


def test_without_outcomes_it_says_how_to_give_some(scored, her2d):
    code, _, err = her2d("calibrate")
    assert (code, err) == (
        1,
        "her2d: There are no outcomes yet. Give --outcomes FILE.csv, or import some with her2d"
        " outcomes import.\n",
    )


def test_signing_again_says_what_is_replaced(scored, bundle, outcomes):
    scored.run("calibrate", "--outcomes", outcomes, "--signed-by", "Dr A. Li")
    again = scored.run("calibrate", "--outcomes", outcomes, "--signed-by", "Dr B. Wang")
    assert "It replaces the one that Dr A. Li signed on" in again.stdout
    assert tomllib.loads(file_of(bundle).read_text())["signed_by"] == "Dr B. Wang"


def test_a_calibration_nobody_signs_is_refused(scored, outcomes, her2d):
    code, _, err = her2d("calibrate", "--outcomes", outcomes, "--signed-by", " ")
    assert (code, err) == (1, "her2d: --signed-by needs the name of a person.\n")


def test_slides_scored_with_a_calibration_say_whether_they_go_to_ihc(
    laboratory, bundle, write_slide, tmp_path
):
    write_calibration(bundle, from_percent=4.0)
    slides = {"positive": ["Sw"], "zone": ["S" + "w" * 19], "negative": ["w" * 10]}
    for name, rows in slides.items():
        laboratory.run("scan", write_slide(rows, f"{name}.tif"))
    listed = {r["file_name"]: r for r in laboratory.json("results")}
    assert {name: r["send_to_ihc"] for name, r in listed.items()} == {
        "positive.tif": False,
        "zone.tif": True,
        "negative.tif": False,
    }
    assert {r["calibration"] for r in listed.values()} == {
        laboratory.json("bundle", "info")["calibration"]["digest"]
    }
    assert [r["file_name"] for r in laboratory.json("results", "--send-to-ihc")] == ["zone.tif"]
    assert len(laboratory.json("results", "--not-to-ihc")) == 2
    assert "Send to IHC: by this laboratory's" in laboratory.run("show", "zone").stdout
    assert "send to IHC" in laboratory.run("results").stdout
    for kind in ("html", "fhir"):
        path = tmp_path / f"zone.{kind}"
        laboratory.run("export", "zone", "--format", kind, "-o", path)
        assert "Send to IHC: by this laboratory" in path.read_text()
        assert listed["zone.tif"]["calibration"] in path.read_text()


def test_without_a_calibration_nothing_is_said_about_ihc(laboratory, bundle, write_slide):
    laboratory.run("scan", write_slide(["w"], "a.tif"))
    (found,) = laboratory.json("results")
    assert found["send_to_ihc"] is found["calibration"] is None
    assert laboratory.json("bundle", "info")["calibration"] is None


def test_bundle_info_shows_the_calibration(laboratory, bundle):
    write_calibration(bundle, from_percent=4.0)
    printed = laboratory.run("bundle", "info").stdout
    assert "calibration.signed_by" in printed
    assert "calibration.zone.from_percent" in printed
    assert "0.9 (0.8 to 0.95)" in printed


def test_a_calibration_of_another_bundle_is_refused_at_the_start_and_by_doctor(
    laboratory, bundle, her2d, write_slide
):
    path = write_calibration(bundle)
    path.write_text(path.read_text().replace(bundle.digest, "a" * 64))
    for command in (("run",), ("scan", write_slide(["w"], "a.tif"))):
        code, _, err = her2d(*command)
        assert code == 1
        # The daemon logs it, and that it made its database first.
        assert f"The calibration {path} is of colors 1 (digest aaaaaaaaaaaa" in err
    (finding,) = (f for f in laboratory.json("doctor")["findings"] if f["check"] == "calibration")
    assert finding["severity"] == "failure"
    assert "is of colors 1" in finding["message"]
    assert "is of colors 1" in laboratory.json("bundle", "info")["calibration"]["error"]


def test_doctor_says_who_signed_the_calibration(laboratory, bundle):
    write_calibration(bundle, from_percent=4.0)
    (finding,) = (f for f in laboratory.json("doctor")["findings"] if f["check"] == "calibration")
    assert finding["severity"] == "ok"
    assert (
        "Dr A. Li signed it on 2026-03-02; slides are sent to IHC from P = 4 %."
        in (finding["message"])
    )
