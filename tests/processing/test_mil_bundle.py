"""A bundle that calls slides by attention, from the command line to the database and all that shows
its results: what it does not have is empty there, and never 0."""

import csv
import io
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from mil_bundles import THRESHOLD, expected, write_mil_bundle
from typer.testing import CliRunner

from her2d.api import Scorer
from her2d.bundle.loading import Bundle
from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.doctor.finding import Severity
from her2d.doctor.models import model_findings, verified_bundle
from her2d.inference.engine import EngineError
from her2d.pipeline.scoring import NO_INTERVAL
from her2d.settings import BundleSettings, InferenceSettings, Settings
from her2d.webhook.outbox import Outbox
from her2d.webhook.payload import webhook_schema

PROMISED = Path(__file__).parents[1] / "webhook" / "webhook-1.schema.json"
NOT_KNOWN = (
    "high_expression_percent",
    "ci_low",
    "ci_high",
    "ci_calibrated",
    "threshold_percent",
    "tile_cut",
    "strong_pixels",
    "tiles_strong",
    "send_to_ihc",
)


@pytest.fixture(scope="module")
def bundle(color_bundle, tmp_path_factory) -> Bundle:
    return write_mil_bundle(color_bundle, tmp_path_factory.mktemp("mil") / "attention")


class Site:
    """A configured laboratory with that bundle, and its commands."""

    def __init__(self, folder: Path, bundle: Bundle, more: str = "") -> None:
        self.folder, self.database = folder, folder / "her2d.sqlite"
        self.config = folder / "config.toml"
        (folder / "inbox").mkdir()
        self.config.write_text(
            f'[bundle]\npath = "{bundle.directory}"\n[inference]\nthreads = 1\n{more}'
            f'[intake]\ninboxes = ["{folder / "inbox"}"]\n'
            f'[results]\ndatabase = "{self.database}"\nheatmaps = "{folder / "heatmaps"}"\n'
            "[ops]\nport = 0\n"
        )

    def run(self, *arguments: object) -> str:
        found = self.attempt(*arguments)
        assert found.exit_code == 0, found.output
        return found.stdout

    def attempt(self, *arguments: object):
        words = [*map(str, arguments), "--config", str(self.config)]
        return CliRunner().invoke(app, words)


@pytest.fixture
def site(bundle, tmp_path) -> Site:
    return Site(tmp_path, bundle)


@pytest.fixture
def scanned(site, write_slide) -> Site:
    site.run("scan", write_slide(["wSw", "s.w"], "a.tif"), write_slide(["ww"], "b.tif"))
    return site


def rows(site: Site, sql: str) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(site.database)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(sql).fetchall()


def test_scan_records_the_probability_and_the_call(scanned):
    a, b = rows(scanned, "select * from slide_results order by file_name")
    assert (a["method"], a["her2_status"], b["her2_status"]) == ("mil", "positive", "negative")
    assert a["positive_probability"] == pytest.approx(expected("wSww")[0], abs=1e-6)
    assert b["positive_probability"] == pytest.approx(expected("ww")[0], abs=1e-6)
    assert a["probability_threshold"] == THRESHOLD
    assert (a["tiles_tumor"], a["tumor_pixels"]) == (4, 4 * 512 * 512)


def test_what_the_method_does_not_have_is_null_in_the_database(scanned):
    for row in rows(scanned, "select * from slide_results"):
        assert {name: row[name] for name in NOT_KNOWN} == dict.fromkeys(NOT_KNOWN)
        assert row["borderline"] == 0


def test_each_tumour_tile_is_recorded_with_its_attention_and_no_class_by_expression(scanned):
    found = rows(
        scanned,
        "select tiles.* from tiles join slide_results using (run_id) where file_name = 'a.tif'"
        " order by tile_row, tile_column",
    )
    assert [row["tile_class"] for row in found] == ["tumor"] * 3 + ["non_tumor", "tumor"]
    weights = [row["attention"] for row in found if row["tile_class"] == "tumor"]
    assert weights == pytest.approx(expected("wSww")[1], abs=1e-6)
    assert all(row["p_strong"] is None and row["p_fold_1"] is None for row in found)
    assert next(row["attention"] for row in found if row["tile_class"] == "non_tumor") is None


def test_the_list_of_results_shows_no_share_and_says_that_there_is_no_interval(scanned):
    shown = " ".join(scanned.run("results").split())
    assert not re.search(r"\d\.\d %", shown)  # as a share and its interval are written
    assert "no interval" in shown
    (a, _) = json.loads(scanned.run("results", "--json", "--sort", "name"))
    assert a["file_name"] == "a.tif"
    assert {name: a[name] for name in NOT_KNOWN} == dict.fromkeys(NOT_KNOWN)


def test_show_has_the_probability_and_says_that_there_is_no_interval(scanned):
    shown = " ".join(scanned.run("show", "a.tif").split())
    assert "positive_probability" in shown
    assert " ".join(NO_INTERVAL.split()[:5]) in shown


def test_csv_has_empty_cells(scanned):
    (a, _) = csv.DictReader(io.StringIO(scanned.run("results", "--csv")))
    assert {a[name] for name in NOT_KNOWN} == {""}
    assert float(a["positive_probability"]) > 0


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("csv", "attention"),
        ("geojson", '"attention"'),
        ("html", "probability that the slide is HER2-positive is"),
        ("fhir", "her2-positive-probability"),
    ],
)
def test_exports_have_the_probability_or_the_attention(scanned, kind, wanted, tmp_path):
    scanned.run("export", "a.tif", "--format", kind, "-o", tmp_path / "out")
    text = (tmp_path / "out").read_text()
    assert wanted in text
    assert "% of the tumour is HER2-high" not in text


def test_fhir_has_neither_a_share_nor_a_number_of_strong_tiles(scanned, tmp_path):
    scanned.run("export", "a.tif", "--format", "fhir", "-o", tmp_path / "out")
    entries = json.loads((tmp_path / "out").read_text())["entry"]
    (found,) = (
        entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Observation"
    )
    p, _ = expected("wSww")
    assert found["valueQuantity"]["value"] == pytest.approx(p, abs=1e-6)
    assert found["referenceRange"][0]["low"]["value"] == THRESHOLD
    codes = {part["code"]["coding"][0]["code"]: part for part in found["component"]}
    assert {"threshold-percent", "tile-cut", "ci-low"}.isdisjoint(codes)
    assert "valueQuantity" not in codes["tiles-strong"]
    assert NO_INTERVAL in [note["text"] for note in found["note"]]


def test_geojson_has_no_region_of_high_expression(scanned, tmp_path):
    scanned.run("export", "a.tif", "--format", "geojson", "-o", tmp_path / "out")
    features = json.loads((tmp_path / "out").read_text())["features"]
    kinds = {feature["properties"]["classification"]["name"] for feature in features}
    assert kinds == {"Tumor", "Other"}


def test_the_webhook_sends_it_as_version_2_with_nulls(scanned):
    with closing(open_database(scanned.database)) as db:
        db.execute("insert into webhook_cursor values (1, 0, '')")
        db.conn.commit()
        outbox = Outbox(db)
        event = outbox.next()
        document = json.loads(outbox.document(event))
    Draft202012Validator(webhook_schema()).validate(document)
    assert document["schema_version"] == "2"
    data = document["data"]
    assert {name: data[name] for name in NOT_KNOWN} == dict.fromkeys(NOT_KNOWN)
    promised = Draft202012Validator(json.loads(PROMISED.read_text()))
    assert not promised.is_valid(document)


def test_the_heatmap_is_drawn_by_attention(bundle, write_slide):
    with Scorer(bundle, threads=1) as scorer:
        score = scorer.score(write_slide(["wS"], "a.tif"))
        found = score.tiles
        picture = score.heatmap()
    assert score.percent is None
    assert score.interval is None
    assert score.positive_probability == pytest.approx(expected("wS")[0], abs=1e-6)
    assert found.attention is not None
    assert not found.strong.any()
    assert found.tumor.all()
    middle = picture.shape[0] // 2
    left, right = (picture[middle, picture.shape[1] * at // 4].astype(int) for at in (1, 3))
    # Brown has more red than blue, and blue the reverse.
    assert left[2] > left[0]
    assert right[0] > right[2]


def test_verify_computes_the_reference_tiles(bundle):
    found = CliRunner().invoke(app, ["bundle", "verify", str(bundle.directory)])
    assert found.exit_code == 0
    assert "is unaltered" in found.stdout


def test_info_says_the_method_and_its_threshold(bundle):
    found = CliRunner().invoke(app, ["bundle", "info", str(bundle.directory), "--json"])
    assert json.loads(found.stdout)["mil"]["threshold"] == THRESHOLD
    assert CliRunner().invoke(app, ["bundle", "info", str(bundle.directory)]).exit_code == 0


def test_doctor_scores_a_blank_tile_with_it(bundle):
    settings = Settings(
        bundle=BundleSettings(path=bundle.directory), inference=InferenceSettings(threads=1)
    )
    findings = {one.check: one for one in model_findings(settings, verified_bundle(settings))}
    assert {one.severity for one in findings.values()} == {Severity.OK}
    assert list(findings)[:2] == ["bundle", "calibration"]
    assert "onnxruntime works" in findings["back end"].message


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compile",), "needs no compiled plan"),
        (("calibrate",), "has no share of HER2-high tumour"),
    ],
)
def test_commands_that_are_not_for_it_refuse_it_in_one_sentence(site, arguments, sentence):
    found = site.attempt(*arguments)
    assert found.exit_code != 0
    assert sentence in str(found.exception)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_another_back_end_is_refused_before_any_slide(bundle, tmp_path, write_slide, backend):
    site = Site(tmp_path, bundle, more=f'backend = "{backend}"\n')
    found = site.attempt("scan", write_slide(["S"], "a.tif"))
    assert found.exit_code != 0
    assert isinstance(found.exception, EngineError)
    assert f"{backend} cannot run the bundle" in str(found.exception)


def test_a_calibration_of_a_share_is_refused(site, bundle, color_bundle):
    path = bundle.directory.with_name(f"{bundle.directory.name}.calibration.toml")
    try:
        path.write_text("x = 1\n")
        found = site.attempt("bundle", "info")
        assert found.exit_code == 0
        assert "calibration" in found.stdout
    finally:
        path.unlink()
