"""Masks from QuPath GeoJSON, Aperio XML and mask TIFFs."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.training.annotations import AnnotationError, read_annotation
from her2d.research.training.region_classes import RegionClass, RegionClasses
from her2d.slides.grid import TileGrid

# A rectangle and, inside it, a hole, in level-0 pixels; ten of which are one pixel of the grid.
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
    # OpenCV fills outlines too, which adds half a pixel on every side, and around the hole.
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


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """A closed ring in level-0 pixels, from its left upper corner."""
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def test_an_aperio_hole_across_the_border_is_cut_out(tmp_path, grid):
    # Its first corner lies outside the region.
    crossing = box(500, 2500, 2000, 3000)
    mask = read_annotation(aperio(tmp_path, "Tumor", (0, OUTLINE), (1, crossing)), grid).tile(0, 0)
    assert not mask.tumor[252:299, 52:199].any()
    assert mask.tumor[275, 205] == 1
    assert int(mask.tumor.sum()) == pytest.approx(200 * 200 - 50 * 100, rel=0.02)


def test_overlapping_aperio_holes_are_both_cut_out(tmp_path, grid):
    holes = [box(1500, 2500, 2000, 3000), box(1800, 2700, 2500, 3500)]
    path = aperio(tmp_path, "Tumor", (0, OUTLINE), *((1, hole) for hole in holes))
    tumor = read_annotation(path, grid).tile(0, 0).tumor
    assert tumor[285, 190] == 0
    assert int(tumor.sum()) == pytest.approx(40_000 - 2500 - 70 * 80 + 20 * 30, rel=0.02)


def test_overlapping_aperio_regions_are_one(tmp_path, grid):
    path = aperio(tmp_path, "Tumor", (0, OUTLINE), (0, box(2000, 3000, 4000, 5000)))
    tumor = read_annotation(path, grid).tile(0, 0).tumor
    assert tumor[350, 250] == 1
    assert int(tumor.sum()) == pytest.approx(2 * 40_000 - 100 * 100, rel=0.02)


def test_an_aperio_hole_leaves_other_layers_alone(tmp_path, grid):
    layer = lambda name, negative, ring: (  # noqa: E731
        f'<Annotation Name="{name}"><Regions><Region NegativeROA="{negative}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
        + "</Vertices></Region></Regions></Annotation>"
    )
    (tmp_path / "a.xml").write_text(
        f"<Annotations>{layer('Tumor', 0, OUTLINE)}{layer('Blur', 1, HOLE)}</Annotations>"
    )
    found = read_annotation(tmp_path / "a.xml", grid).tile(0, 0)
    assert found.tumor[275, 175] == 1


def test_an_aperio_ellipse_is_refused_in_a_sentence(tmp_path, grid):
    ellipse = [[1000, 1000], [2000, 2000], [1000, 1000]]
    path = aperio(tmp_path, "Tumor", (0, OUTLINE), (0, ellipse))
    with pytest.raises(AnnotationError, match="region 2 of the layer 'Tumor' has 2 corners"):
        read_annotation(path, grid)


def test_an_aperio_layer_to_ignore_may_hold_anything(tmp_path, grid):
    found = read_annotation(aperio(tmp_path, "Ignore", (0, [[0, 0], [9, 9], [0, 0]])), grid)
    assert found.dropped == {"Ignore": 1}


def test_a_tiles_white_padding_is_never_annotated(tmp_path, grid):
    # The grid is 1000 x 900, its tiles end at 1024.
    everything = box(-1000, -1000, 20_000, 20_000)
    mask = read_annotation(geojson(tmp_path, ("Tumor", [everything])), grid).tile(1, 1)
    assert mask.tumor[: 900 - 512, : 1000 - 512].all()
    assert not mask.tumor[900 - 512 :].any()
    assert not mask.tumor[:, 1000 - 512 :].any()


def test_an_excluded_region_in_the_padding_excludes_nothing(tmp_path, grid):
    beyond = box(10_010, 9010, 10_200, 9200)
    assert not read_annotation(geojson(tmp_path, ("Blur", [beyond])), grid).tile(1, 1).excluded


def test_a_multipolygon_is_the_sum_of_its_parts(tmp_path, grid):
    one, other = [OUTLINE, HOLE], [box(4000, 2000, 4500, 2500)]
    path = geojson(tmp_path, ("Tumor", one), ("Tumor", other))
    apart = read_annotation(path, grid).tile(0, 0).tumor
    feature = {"geometry": {"type": "MultiPolygon", "coordinates": [one, other]}}
    (tmp_path / "m.geojson").write_text(json.dumps([feature]))
    assert np.array_equal(read_annotation(tmp_path / "m.geojson", grid).tile(0, 0).tumor, apart)


def classified(folder, classification: object, geometry: object = None):
    """Write a GeoJSON file of one region with a classification."""
    polygon = {"type": "Polygon", "coordinates": [OUTLINE]}
    feature = {
        "geometry": geometry or polygon,
        "properties": {"classification": classification},
    }
    (folder / "a.geojson").write_text(json.dumps([feature]))
    return folder / "a.geojson"


def test_an_unknown_class_is_refused_by_name(tmp_path, grid):
    with pytest.raises(AnnotationError, match=r"'Gland'.*--class 'Gland'=tumor"):
        read_annotation(geojson(tmp_path, ("Gland", [OUTLINE])), grid)


@pytest.mark.parametrize(
    "classification",
    [
        {"name": "Tumor: Positive", "color": [1, 2, 3]},
        {"names": ["Tumor"]},
        {"names": ["Tumor", "3+"]},
        None,
    ],
)
def test_names_that_qupath_gives_tumour_are_tumour(tmp_path, grid, classification):
    assert read_annotation(classified(tmp_path, classification), grid).tile(0, 0).tumor.any()


@pytest.mark.parametrize(
    "name", ["Stroma", "Necrosis", "Ignore*", "Region*", "Immune cells", "Other", "Stroma: 2+"]
)
def test_qupaths_other_classes_are_left_out_and_counted(tmp_path, grid, name):
    found = read_annotation(classified(tmp_path, {"name": name}), grid)
    assert found.dropped == {name: 1}
    assert not found.tile(0, 0).tumor.any()


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "MultiPoint", "coordinates": [[1, 2]]},
        {"type": "LineString", "coordinates": [[1, 2], [3, 4]]},
    ],
)
def test_points_and_lines_are_left_out_and_counted(tmp_path, grid, geometry):
    found = read_annotation(classified(tmp_path, {"name": "Positive"}, geometry), grid)
    assert found.dropped == {geometry["type"]: 1}


@pytest.mark.parametrize(
    ("feature", "kind"),
    [
        ({"properties": {"objectType": "tile", "classification": {"name": "Tumor"}}}, "tile"),
        ({"properties": {"objectType": "cell", "classification": {"name": "Gland"}}}, "cell"),
        ({"properties": {"object_type": "detection"}}, "detection"),
        ({"id": "PathDetectionObject", "properties": {}}, "detection"),
    ],
)
def test_objects_that_nobody_drew_are_left_out_and_counted(tmp_path, grid, feature, kind):
    drawn = {"type": "Polygon", "coordinates": [OUTLINE]}
    others = [
        {"id": "PathAnnotationObject", "geometry": drawn},
        {"properties": {"objectType": "annotation"}, "geometry": drawn},
    ]
    whole = {"type": "Polygon", "coordinates": [[[0, 0], [0, 9999], [9999, 9999], [9999, 0]]]}
    (tmp_path / "a.geojson").write_text(json.dumps([feature | {"geometry": whole}, *others]))
    found = read_annotation(tmp_path / "a.geojson", grid)
    assert found.dropped == {kind: 1}
    assert 0 < found.tile(0, 0).tumor.mean() < 0.5


@pytest.mark.parametrize("classification", [{}, {"name": ""}, {"names": []}, {"color": [0, 0, 0]}])
def test_a_classification_without_a_name_is_refused(tmp_path, grid, classification):
    with pytest.raises(AnnotationError, match="classification does not have a name"):
        read_annotation(classified(tmp_path, classification), grid)


def test_a_user_says_what_names_mean(tmp_path, grid):
    own = RegionClasses({"Gland": RegionClass.TUMOR, "tumor": RegionClass.IGNORED})
    path = geojson(tmp_path, ("gland", [OUTLINE]), ("Tumor", [HOLE]))
    found = read_annotation(path, grid, own)
    assert found.tile(0, 0).tumor[275, 175] == 1
    assert found.dropped == {"Tumor": 1}


@pytest.mark.parametrize("name", ["Tumor: gland", "Positive", "2+"])
def test_what_a_derived_class_means_is_not_guessed(name):
    with pytest.raises(ValueError, match="is not known"):
        RegionClasses().of(name)


def test_a_derived_class_is_what_it_was_derived_to_be():
    assert RegionClasses().of("Tumor: Strong") is RegionClass.HIGH_EXPRESSION


@pytest.mark.parametrize(
    ("name", "text"), [("a.geojson", "{"), ("a.xml", "<Annot"), ("a.json", "[{}]"), ("a.txt", "")]
)
def test_what_cannot_be_understood_is_one_sentence(tmp_path, grid, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=name):
        read_annotation(tmp_path / name, grid)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "null"),
        ("a.json", "[1]"),
        ("a.json", '[{"geometry": null}]'),
        ("a.json", '[{"geometry": {"type": "Polygon", "coordinates": [[]]}}]'),
        ("a.json", '[{"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3], [4, 5]]]}}]'),
        ("a.json", '[{"properties": {"classification": "Tumor"}}]'),
        ("a.json", "[" * 100_000),
        ("a.tif", "II*"),
    ],
)
def test_a_damaged_file_is_refused_without_the_words_of_a_library(tmp_path, grid, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=name) as refused:
        read_annotation(tmp_path / name, grid)
    for word in ("object", "subscriptable", "attribute", "array", "recursion", "index"):
        assert word not in str(refused.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1e300", "-1e300"])
def test_a_corner_that_is_nowhere_is_refused(tmp_path, grid, number):
    path = geojson(tmp_path, ("Tumor", [OUTLINE]))
    path.write_text(path.read_text().replace("3000", number))
    with pytest.raises(AnnotationError, match="coordinates are not numbers of pixels"):
        read_annotation(path, grid)


@pytest.mark.parametrize("number", ["nan", "inf", "3_000", "far", ""])
def test_a_corner_of_an_aperio_region_that_is_nowhere_is_refused(tmp_path, grid, number):
    path = aperio(tmp_path, "Tumor", (0, [[number, 0], *OUTLINE]))
    with pytest.raises(AnnotationError, match="coordinates are not numbers of pixels"):
        read_annotation(path, grid)


@pytest.mark.parametrize("far", [(20_000, 0), (0, 20_000), (-5_000, 0)])
def test_a_region_beside_the_slide_is_refused(tmp_path, grid, far):
    """It was drawn on another scan, and its tumour would be learned as other tissue."""
    ring = [[x + far[0], y + far[1]] for x, y in OUTLINE]
    path = geojson(tmp_path, ("Tumor", [OUTLINE]), ("Tumor", [ring]))
    with pytest.raises(AnnotationError, match="region 2 of 2 lies beside the slide of 1000 x 900"):
        read_annotation(path, grid)


def test_an_unknown_label_is_refused(tmp_path, grid):
    labels = np.zeros((grid.height, grid.width), np.uint8)
    labels[-1, -1] = 3
    tifffile.imwrite(tmp_path / "m.tif", labels)
    with pytest.raises(AnnotationError, match="the label 3 is not known"):
        read_annotation(tmp_path / "m.tif", grid)


@pytest.mark.parametrize("part", [0.5, 0.98])
def test_a_label_image_that_is_cut_short_is_refused(tmp_path, grid, part):
    labels = np.random.default_rng(1).integers(0, 3, (grid.height, grid.width), np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", labels, compression="deflate", tile=(512, 512))
    content = (tmp_path / "m.tif").read_bytes()
    (tmp_path / "m.tif").write_bytes(content[: int(part * len(content))])
    with pytest.raises(AnnotationError, match="the label image is damaged"):
        read_annotation(tmp_path / "m.tif", grid)


def test_a_mask_tiff_is_cut_into_tiles(tmp_path, grid):
    labels = np.zeros((900, 1000), np.uint8)
    labels[600:, 600:700] = 1
    labels[600:, 700:] = 2
    tifffile.imwrite(tmp_path / "m.tif", labels)
    found = read_annotation(tmp_path / "m.tif", grid).tile(1, 1)
    assert int(found.tumor.sum()) == 300 * 400
    assert int(found.high_expression.sum()) == 300 * 300


def test_a_mask_says_where_expression_is_high_only_if_it_is_somewhere(tmp_path, grid):
    labels = np.ones((grid.height, grid.width), np.uint8)
    tifffile.imwrite(tmp_path / "tumor.tif", labels)
    assert read_annotation(tmp_path / "tumor.tif", grid).tile(0, 0).high_expression is None
    labels[-1, -1] = 2
    tifffile.imwrite(tmp_path / "high.tif", labels)
    assert not read_annotation(tmp_path / "high.tif", grid).tile(0, 0).high_expression.any()


@pytest.mark.parametrize("shape", [(10, 10), (903, 1000), (900, 997), (900, 1000, 3)])
def test_a_mask_of_another_size_is_refused(tmp_path, grid, shape):
    labels = np.zeros(shape, np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", labels, photometric="minisblack")
    with pytest.raises(AnnotationError, match=r"must be uint8 of shape \(900, 1000\)"):
        read_annotation(tmp_path / "m.tif", grid)


@pytest.mark.parametrize("off", [-2, 0, 2])
def test_a_label_image_may_be_off_by_the_rounding_of_a_pyramid(tmp_path, grid, off):
    """Software that draws at 4x may round sizes differently from the pyramid of a 40x scan."""
    labels = np.zeros((grid.height + off, grid.width - off), np.uint8)
    labels[100:200, 100:200] = 2
    labels[grid.height :] = labels[:, grid.width :] = 255  # beyond the slide
    tifffile.imwrite(tmp_path / "a.tif", labels)
    found = read_annotation(tmp_path / "a.tif", grid)
    assert found.tile(0, 0).tumor.sum() == found.tile(0, 0).high_expression.sum() == 100 * 100
    assert not found.tile(grid.columns - 1, grid.rows - 1).excluded
