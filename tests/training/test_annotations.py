"""Annotations become masks: QuPath GeoJSON, Aperio XML and mask TIFFs."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from her2d.slides import TileGrid
from her2d.training.annotations import AnnotationError, read_annotation

# A rectangle and, inside it, a hole, in level-0 pixels; ten of them are one of the grid's.
OUTLINE = [[1000, 2000], [3000, 2000], [3000, 4000], [1000, 4000], [1000, 2000]]
HOLE = [[1500, 2500], [2000, 2500], [2000, 3000], [1500, 3000], [1500, 2500]]


def geojson(folder, *features):
    collection = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": rings},
                "properties": {"classification": {"name": name}} if name else {},
            }
            for name, rings in features
        ],
    }
    (folder / "a.geojson").write_text(json.dumps(collection))
    return folder / "a.geojson"


def aperio(folder, layer, *regions):
    vertices = lambda ring: "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring[:-1])  # noqa: E731
    body = "".join(
        f'<Region NegativeROA="{negative}"><Vertices>{vertices(ring)}</Vertices></Region>'
        for negative, ring in regions
    )
    (folder / "a.xml").write_text(
        f'<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="{layer}">'
        f"<Regions>{body}</Regions></Annotation></Annotations>"
    )
    return folder / "a.xml"


def test_a_polygon_is_filled_and_its_hole_is_not(tmp_path, grid):
    mask = read_annotation(geojson(tmp_path, ("Tumor", [OUTLINE, HOLE])), grid).tile(0, 0).tumor
    assert mask[210, 110] == 1
    assert mask[275, 175] == 0
    assert mask[190, 110] == 0
    # OpenCV fills outlines too: half a pixel all round, of the hole as well.
    assert int(mask.sum()) == pytest.approx(200 * 200 - 50 * 50, rel=0.02)


def test_aperio_xml_is_the_same_mask(tmp_path, grid):
    one = read_annotation(geojson(tmp_path, ("Tumor", [OUTLINE, HOLE])), grid)
    other = read_annotation(aperio(tmp_path, "Tumor", (0, OUTLINE), (1, HOLE)), grid)
    assert np.array_equal(one.tile(0, 0).tumor, other.tile(0, 0).tumor)


@given(st.integers(0, 9000), st.integers(0, 8000), st.integers(200, 4000))
def test_a_region_across_tiles_is_whole(tmp_path_factory, x, y, side):
    grid = TileGrid.covering(1024, 1024, um_per_px=2.5, level0_downsample=10.0)
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    found = read_annotation(geojson(tmp_path_factory.mktemp("a"), ("Tumor", [ring])), grid)
    whole = np.block([[found.tile(c, r).tumor for c in (0, 1)] for r in (0, 1)])
    inside = np.zeros((1024, 1024), bool)
    inside[-(-y // 10) : (y + side) // 10, -(-x // 10) : (x + side) // 10] = True
    assert whole[inside].all()
    rows, columns = np.nonzero(whole)
    assert (np.abs(rows - (y + side / 2) / 10) <= side / 20 + 1).all()
    assert (np.abs(columns - (x + side / 2) / 10) <= side / 20 + 1).all()


def test_high_expression_counts_within_tumour_only(tmp_path, grid):
    across = [[0, 2000], [2000, 2000], [2000, 4000], [0, 4000], [0, 2000]]
    path = geojson(tmp_path, ("Tumor", [OUTLINE]), ("HER2 high", [across]))
    found = read_annotation(path, grid).tile(0, 0)
    assert found.high_expression[300, 150] == 1
    assert found.high_expression[300, 50] == 0


def test_an_excluded_region_excludes_the_tiles_it_touches(tmp_path, grid):
    found = read_annotation(geojson(tmp_path, ("Blur", [OUTLINE])), grid)
    assert found.tile(0, 0).excluded
    assert not found.tile(1, 1).excluded


def test_a_region_without_a_class_is_tumour(tmp_path, grid):
    assert read_annotation(geojson(tmp_path, (None, [OUTLINE])), grid).tile(0, 0).tumor.any()


def test_an_unknown_class_is_refused_by_name(tmp_path, grid):
    with pytest.raises(AnnotationError, match="Stroma"):
        read_annotation(geojson(tmp_path, ("Stroma", [OUTLINE])), grid)


@pytest.mark.parametrize(
    ("name", "text"), [("a.geojson", "{"), ("a.xml", "<Annot"), ("a.json", "[{}]"), ("a.txt", "")]
)
def test_what_cannot_be_understood_is_one_sentence(tmp_path, grid, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=name):
        read_annotation(tmp_path / name, grid)


def test_a_mask_tiff_is_cut_into_tiles(tmp_path, grid):
    labels = np.zeros((900, 1000), np.uint8)
    labels[600:, 600:700] = 1
    labels[600:, 700:] = 2
    tifffile.imwrite(tmp_path / "m.tif", labels)
    found = read_annotation(tmp_path / "m.tif", grid).tile(1, 1)
    assert int(found.tumor.sum()) == 300 * 400
    assert int(found.high_expression.sum()) == 300 * 300


def test_a_mask_of_another_size_is_refused(tmp_path, grid):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((10, 10), np.uint8))
    with pytest.raises(AnnotationError, match="900 x 1000"):
        read_annotation(tmp_path / "m.tif", grid)
