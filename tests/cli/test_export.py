"""`her2d export`: every format, read back by a library that others use for it."""

import csv
import html.parser
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from fhir.resources.R4B.bundle import Bundle
from geojson_pydantic import FeatureCollection
from real_slides import write_without_magnification
from shapely.geometry import box, shape
from shapely.ops import unary_union
from typer.testing import CliRunner

from her2d.cli.app import app
from her2d.research.training.annotations import read_annotation
from her2d.slides.reader import open_slide


@pytest.fixture
def scanned(laboratory, write_slide):
    """Strong, weak, half weak, stroma; background."""
    laboratory.run("scan", write_slide(["Sw.", "hs."], "a.tif"))
    return laboratory


@pytest.fixture
def exported(scanned, tmp_path):
    def exported(format_: str) -> Path:
        output = tmp_path / f"a.{format_}"
        done = scanned.run("export", "a", "--format", format_, "-o", output)
        assert done.exit_code == 0, done.output
        return output

    return exported


def features(path: Path, kind: str):
    collection = json.loads(path.read_text())
    return [f for f in collection["features"] if f["properties"]["objectType"] == kind]


def test_geojson_round_trips_through_the_published_models(exported):
    text = exported("geojson").read_text()
    collection = FeatureCollection.model_validate_json(text)
    again = json.loads(collection.model_dump_json(exclude_unset=True))
    assert again == json.loads(text)
    assert len({feature["id"] for feature in again["features"]}) == len(again["features"])


def test_geojson_has_each_tissue_tile_at_its_place_with_its_class_and_measurements(exported):
    tiles = {f["properties"]["name"]: f for f in features(exported("geojson"), "tile")}
    assert {
        name: (shape(f["geometry"]).bounds, f["properties"]["classification"]["name"])
        for name, f in tiles.items()
    } == {
        "tile 0 0": ((0, 0, 512, 512), "HER2 high"),
        "tile 1 0": ((512, 0, 1024, 512), "Tumor"),
        "tile 0 1": ((0, 512, 512, 1024), "Tumor"),
        "tile 1 1": ((512, 512, 1024, 1024), "Other"),
    }
    measured = tiles["tile 0 0"]["properties"]["measurements"]
    assert measured["p(strong) fold 3"] == pytest.approx(102 / 255, abs=1e-3)
    assert measured["Tumour pixels (4x)"] == 512 * 512
    assert "p(strong)" not in tiles["tile 1 1"]["properties"]["measurements"]


def test_geojson_outlines_are_the_tumour_in_level_0_pixels(exported):
    outlines = features(exported("geojson"), "annotation")
    by_class = {
        name: unary_union(
            [
                shape(f["geometry"])
                for f in outlines
                if f["properties"]["classification"]["name"] == name
            ]
        )
        for name in ("HER2 high", "Tumor")
    }
    assert by_class["HER2 high"].equals(box(0, 0, 512, 512))
    tumor = unary_union([box(0, 0, 1024, 512), box(0, 512, 256, 1024)])
    assert by_class["Tumor"].equals(tumor)
    assert outlines[0]["properties"]["measurements"]["Outline resolution um"] == 5.0


def test_geojson_is_an_annotation_that_prepare_takes(scanned, exported, tmp_path):
    annotation = exported("geojson")
    (result,) = scanned.json("results")
    table = tmp_path / "cohort.csv"
    table.write_text(
        "slide,patient,he_path,annotation_path,ihc_score,fish,split\n"
        f"A,P,{result['path']},{annotation},3+,,train\n"
    )
    done = CliRunner().invoke(app, ["prepare", str(table), "--study", str(tmp_path / "study")])
    assert done.exit_code == 0, done.output
    assert "4 tissue tiles of 1 slides" in done.output
    assert "3 with tumour, 1 of them strong" in done.output
    assert "Left out of the annotation of A: 4 tile." in done.output
    with open_slide(Path(result["path"])) as slide:
        found = read_annotation(annotation, slide.grid)
    share = {(x, y): found.tile(x, y).tumor.mean() for x in (0, 1) for y in (0, 1)}
    assert share == pytest.approx({(0, 0): 1, (1, 0): 1, (0, 1): 0.5, (1, 1): 0}, abs=0.01)
    assert found.tile(0, 0).high_expression.all()
    assert found.tile(1, 0).high_expression.mean() < 0.01


def test_small_regions_are_named_unless_all_are_outlined(laboratory, write_slide, tmp_path):
    laboratory.run("scan", write_slide(["Sw", "hs"], "a.tif"))
    output = tmp_path / "a.json"
    export = ("export", "a", "--format", "geojson", "-o", output)
    done = laboratory.run(*export, "--min-area", 5e6)
    assert done.stderr == (
        "1 region of tumour under 5e+06 um2 (4.1 mm2 in all) is not outlined. --min-area 0"
        " outlines every region.\n"
    )
    assert features(output, "annotation") == []
    assert laboratory.run(*export, "--min-area", 0).stderr == ""
    assert len(features(output, "annotation")) == 2


def test_csv_and_parquet_hold_the_same_tiles(exported):
    rows = list(csv.DictReader(exported("csv").open()))
    table = pq.read_table(exported("parquet"))
    assert table.num_rows == len(rows) == 4
    assert table["tile_class"].to_pylist() == [row["tile_class"] for row in rows]
    assert table["p_strong"].to_pylist() == [
        float(row["p_strong"]) if row["p_strong"] else None for row in rows
    ]
    assert json.loads(table.schema.metadata[b"her2d"])["file_name"] == "a.tif"


def test_png_is_the_heatmap(exported):
    assert exported("png").read_bytes().startswith(b"\x89PNG")


def test_ome_tiff_is_a_pyramid_that_covers_the_slide(exported):
    with tifffile.TiffFile(exported("ome-tiff")) as tiff:
        assert tiff.is_ome
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(512, 768, 3), (256, 384, 3), (128, 192, 3)]
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert pixels["PhysicalSizeX"] * 768 == pytest.approx(3 * 512 * 2.5)
        picture = levels[0].asarray().astype(int)
    strong, weak, glass = picture[128, 128], picture[128, 384], picture[128, 640]
    assert strong[0] > strong[2]
    assert weak[2] > weak[0]
    assert glass == pytest.approx([245] * 3, abs=2)


def test_ome_xml_is_valid_whatever_the_slide_is_called(laboratory, write_slide, tmp_path):
    name = "a\x01\x1b]8;;<b>&\"'\ufffe\u202e.tif"
    laboratory.run("scan", write_slide(["Sw"], "a.tif").rename(tmp_path / name))
    (result,) = laboratory.json("results")
    output = tmp_path / "a.ome.tif"
    done = laboratory.run("export", str(result["slide_id"]), "--format", "ome-tiff", "-o", output)
    assert done.exit_code == 0, done.output
    with tifffile.TiffFile(output) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    (image,) = root.findall("{*}Image")
    assert image.get("Name").startswith("a\\x01\\x1b]8;;<b>&\"'\\ufffe\\u202e.tif: HER2")


def test_fhir_is_valid_and_contains_the_result(exported):
    bundle = Bundle.model_validate_json(exported("fhir").read_text())
    resources = {entry.resource.get_resource_type(): entry.resource for entry in bundle.entry}
    observation = resources["Observation"]
    assert float(observation.valueQuantity.value) == pytest.approx(40.0)
    assert observation.interpretation[0].coding[0].code == "POS"
    assert observation.component[0].code.text == "95 % interval, lower end, not calibrated"
    assert any("Not calibrated" in note.text for note in observation.note)
    assert float(observation.referenceRange[0].low.value) == 10.0
    assert resources["DiagnosticReport"].status == "preliminary"
    assert "Research use only" in resources["DiagnosticReport"].conclusion
    urls = {entry.fullUrl for entry in bundle.entry}
    assert resources["DiagnosticReport"].result[0].reference in urls
    assert {i.value for i in resources["Specimen"].identifier} >= {"a"}


def test_fhir_without_tumour_gives_the_reason_for_the_missing_number(
    laboratory, write_slide, tmp_path
):
    laboratory.run("scan", write_slide(["s"], "benign.tif"))
    laboratory.run("export", "benign", "--format", "fhir", "-o", tmp_path / "b.json")
    bundle = Bundle.model_validate_json((tmp_path / "b.json").read_text())
    (observation,) = (
        e.resource for e in bundle.entry if e.resource.get_resource_type() == "Observation"
    )
    assert observation.valueQuantity is None
    assert observation.dataAbsentReason.text == "No tumour was found in any tile."
    assert observation.dataAbsentReason.coding[0].code == "no-tumor"


def test_fhir_names_a_patient_if_the_settings_name_the_system(scanned, tmp_path, monkeypatch):
    output = tmp_path / "a.json"
    export = ("export", "a", "--format", "fhir", "-o", output, "--subject", "4711")
    assert "--subject needs [fhir] subject_system" in str(scanned.run(*export).exception)
    monkeypatch.setenv("HER2D_FHIR__SUBJECT_SYSTEM", "urn:oid:1.2.36.147")
    assert scanned.run(*export).exit_code == 0
    assert output.read_text().count('"4711"') == 4


def test_fhir_names_the_patient_of_an_imported_outcome(scanned, tmp_path, monkeypatch):
    monkeypatch.setenv("HER2D_FHIR__SUBJECT_SYSTEM", "urn:oid:1.2.36.147")
    (tmp_path / "ihc.csv").write_text("slide,ihc,patient\na.tif,3+,case-17\n")
    assert scanned.run("outcomes", "import", tmp_path / "ihc.csv").exit_code == 0
    output = tmp_path / "a.json"
    assert scanned.run("export", "a", "--format", "fhir", "-o", output).exit_code == 0
    assert output.read_text().count('"case-17"') == 4
    assert "IHC and FISH: IHC 3+: positive." in output.read_text()


def test_the_report_is_one_file_that_fetches_nothing(exported):
    text = exported("html").read_text()
    sources = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            sources.extend(value for name, value in attrs if name in ("src", "href"))

    Reader().feed(text)
    assert "Not calibrated: the interval shows" in text
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    for words in ("research use only", "HER2 positive", "colors 1", "40.0 %"):
        assert words in text


def test_a_hostile_name_is_only_text_in_the_report(laboratory, write_slide, tmp_path):
    laboratory.run("scan", write_slide(["S"], "<script>alert(1)<script>.tif"))
    output = tmp_path / "r.html"
    assert laboratory.run("export", "1", "--format", "html", "-o", output).exit_code == 0
    assert "<script" not in output.read_text()
    assert "&lt;script" in output.read_text()


def test_a_file_that_cannot_be_written_is_one_clear_line(scanned, her2d, tmp_path):
    code, _, err = her2d("export", "a", "--format", "csv", "-o", tmp_path / "no" / "a.csv")
    assert code == 1
    assert (
        err == f"her2d: {tmp_path / 'no' / 'a.csv'} cannot be written: No such file or directory.\n"
    )


def test_an_export_that_fails_leaves_the_file_of_the_last_one(scanned, exported, monkeypatch):
    output = exported("csv")
    before = output.read_bytes()

    def fails(_run, file) -> None:
        file.write("tile_row")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("her2d.results.export.tables.write_csv", fails)
    done = scanned.run("export", "a", "--format", "csv", "-o", output)
    assert done.exit_code != 0
    assert output.read_bytes() == before
    assert list(output.parent.glob(".*")) == []


def test_an_export_can_be_written_to_a_pipe(scanned, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        text = pool.submit((tmp_path / "pipe").read_text)
        done = scanned.run("export", "a", "--format", "csv", "-o", tmp_path / "pipe")
    assert done.exit_code == 0, done.output
    assert text.result().startswith("column,row,x,y,")


def test_missing_pictures_are_reported_in_one_clear_line(scanned, her2d, tmp_path):
    for picture in (scanned.folder / "heatmaps").glob("*.tumor.png"):
        picture.unlink()
    code, _, err = her2d("export", "a", "--format", "geojson", "-o", tmp_path / "a.json")
    assert (code, err.count("\n")) == (1, 1)
    assert "tumor.png cannot be read" in err


@pytest.mark.slow
def test_coordinates_on_a_real_slide_are_those_of_its_pyramid(laboratory, tmp_path, monkeypatch):
    """Level 0 under each rectangle, averaged five by five, fits the tile that was scored, and fits
    it better than when moved by one pixel of it in any direction.
    """
    monkeypatch.setenv("HER2D_INTAKE__ASSUME_MAGNIFICATION", "20")
    path = tmp_path / "frozen.svs"
    write_without_magnification(path)
    laboratory.run("scan", path)
    output = tmp_path / "frozen.json"
    laboratory.run("export", path.name, "--format", "geojson", "-o", output)
    FeatureCollection.model_validate_json(output.read_text())
    bounds = {
        f["properties"]["name"]: shape(f["geometry"]).bounds for f in features(output, "tile")
    }
    with tifffile.TiffFile(path) as tiff, open_slide(path, assume_magnification=20) as slide:
        level0 = tiff.pages[0].asarray()
        tiles = {f"tile {t.column} {t.row}": t.pixels for t in slide.tiles()}
    assert len(bounds) >= 2
    assert bounds["tile 1 0"] == (2560, 0, level0.shape[1], 2560)
    for name, (left, top, right, bottom) in bounds.items():
        part = level0[int(top) : int(bottom), int(left) : int(right)].astype(float)
        height, width = part.shape[0] // 5, part.shape[1] // 5
        mean = part[: height * 5, : width * 5].reshape(height, 5, width, 5, 3).mean((1, 3))
        tile = tiles[name][:height, :width].astype(float)
        errors = {
            (x, y): np.abs(np.roll(mean, (y, x), (0, 1)) - tile)[2:-2, 2:-2].mean()
            for x in (-1, 0, 1)
            for y in (-1, 0, 1)
        }
        assert min(errors, key=errors.__getitem__) == (0, 0)
        assert errors[0, 0] < 4
