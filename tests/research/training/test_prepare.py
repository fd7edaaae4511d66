"""Tiles prepared from a cohort."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from her2d.research.training.annotations import read_annotation
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.prepare import (
    ExpressionSource,
    LabelRules,
    PrepareError,
    contradicting_slides,
    prepare,
    prepare_study,
    prepared_tiles,
    read_excluded,
    slides_without_tumor,
)
from her2d.research.training.region_classes import RegionClass, RegionClasses
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import (
    ExcludedTile,
    PreparedTile,
    TileStore,
    write_slide,
)
from her2d.slides.reader import open_slide


@pytest.fixture
def slide(tmp_path, write_slide):
    """Three tiles: background, weak tumour, tumour that is strong in its right three quarters."""
    labels = np.zeros((512, 1536), np.uint8)
    labels[:, 512:] = 1
    labels[:, 1024 + 128 :] = 2
    tifffile.imwrite(tmp_path / "mask.tif", labels)
    return CohortSlide(
        name="S1",
        patient="P1",
        he_path=write_slide([".wS"]),
        ihc_path=None,
        annotation_path=tmp_path / "mask.tif",
        her2_status=Status.POSITIVE,
        split=Split.TRAIN,
        morphology={},
    )


def tiles(slide: CohortSlide, rules: LabelRules) -> list[PreparedTile | ExcludedTile]:
    with open_slide(slide.he_path) as he:
        annotation = read_annotation(slide.annotation_path, he.grid, rules.classes)
        return list(prepared_tiles(slide, he, annotation, rules))


def test_background_is_left_out_and_tumour_is_labelled(slide):
    weak, strong = tiles(slide, LabelRules())
    assert ((weak.column, weak.row), weak.strong_pixels) == ((1, 0), 0)
    assert ((strong.column, strong.row), strong.strong_pixels) == ((2, 0), 512 * 384)
    assert weak.tumor.all()


@pytest.mark.parametrize(("status", "strong_pixels"), [("positive", -1), ("negative", 0)])
def test_a_label_image_of_tumour_alone_labels_tiles_by_the_slides_status(
    slide, status, strong_pixels
):
    labels = np.zeros((512, 1536), np.uint8)
    labels[:, 512:] = 1
    tifffile.imwrite(slide.annotation_path, labels)
    found = tiles(slide.model_copy(update={"her2_status": Status(status)}), LabelRules())
    assert [tile.strong_pixels for tile in found] == [strong_pixels] * 2


def test_excluded_tiles_are_recorded_with_their_reason(slide, tmp_path):
    with (tmp_path / "excluded.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["slide", "column", "row", "reason"], ["S1", 1, 0, "blurred"]])
    found = tiles(slide, LabelRules(excluded=read_excluded(tmp_path / "excluded.csv")))
    assert found[0] == ExcludedTile(1, 0, "blurred")
    assert isinstance(found[1], PreparedTile)


def test_a_wrong_line_of_the_excluded_is_named(tmp_path):
    (tmp_path / "excluded.csv").write_text("slide,column,row,reason\nS1,one,0,blur\n")
    with pytest.raises(PrepareError, match="line 2"):
        read_excluded(tmp_path / "excluded.csv")


@pytest.mark.parametrize("row", ["S1,-1,0,blur", "S1,1.0,0,blur", "S1,0,0,", "S1,0,0", ",0,0,blur"])
def test_a_tile_that_cannot_be_excluded_is_refused(tmp_path, row):
    (tmp_path / "excluded.csv").write_text(f"slide,column,row,reason\n{row}\n")
    with pytest.raises(PrepareError, match="line 2"):
        read_excluded(tmp_path / "excluded.csv")


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        (("S7", 0, 0), "Tiles of S7 are excluded, which is not a slide of the cohort"),
        (("S1", 99, 0), "S1: the excluded tile in column 99, row 0 is not one of its"),
    ],
)
def test_an_excluded_tile_that_is_not_there_is_refused(slide, tmp_path, at, sentence):
    """A misspelt name would let the networks learn from the tile."""
    with pytest.raises(PrepareError, match=sentence):
        prepare_study(Study(tmp_path / "study"), [slide], LabelRules(excluded={at: "blurred"}))


def test_a_study_has_a_cohort_only_when_all_tiles_are_there(slide, tmp_path):
    study = Study(tmp_path / "study")
    prepare_study(study, [slide], LabelRules())
    assert [one.name for one in study.cohort()] == ["S1"]
    broken = slide.model_copy(update={"name": "S2", "annotation_path": tmp_path / "gone.xml"})
    broken.annotation_path.write_text("<")
    with pytest.raises(PrepareError, match="S2"):
        prepare_study(study, [slide, broken], LabelRules())
    with pytest.raises(StudyError, match="Run `her2d prepare` until it finishes"):
        study.cohort()
    prepare_study(study, [slide], LabelRules())
    assert [one.name for one in study.cohort()] == ["S1"]


def test_refused_rules_leave_the_study_as_it_was(slide, tmp_path):
    study = Study(tmp_path / "study")
    prepare_study(study, [slide], LabelRules())
    other = slide.model_copy(update={"name": "S2"})
    with pytest.raises(PrepareError, match="labelled by other rules"):
        prepare_study(study, [other], LabelRules(ExpressionSource.DAB))
    assert [one.name for one in study.cohort()] == ["S1"]


def test_two_commands_do_not_prepare_a_study_at_once(slide, tmp_path):
    study = Study(tmp_path / "study")
    study.tiles.mkdir(parents=True)
    # POSIX locks are those of a process.
    held = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{held}; print(flush=True); input()"]
    with subprocess.Popen(
        [*command, study.tiles / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(StudyError, match="Another her2d command is writing"):
            prepare_study(study, [slide], LabelRules())
        other.communicate(b"\n")
    prepare_study(study, [slide], LabelRules())


def test_slides_with_a_status_but_without_tumour_are_reported(slide, tmp_path):
    slides = []
    for name, status, label in (
        ("S1", "negative", 0),
        ("S2", "negative", 1),
        ("S3", "indeterminate", 0),
    ):
        image = tifffile.imread(slide.annotation_path)
        tifffile.imwrite(tmp_path / f"{name}-mask.tif", np.full_like(image, label))
        changes = {"annotation_path": tmp_path / f"{name}-mask.tif", "her2_status": Status(status)}
        slides.append(slide.model_copy(update={"name": name} | changes))
    prepare(slides, tmp_path / "tiles", LabelRules())
    store = TileStore(tmp_path / "tiles", ["S1", "S2", "S3"])
    assert slides_without_tumor(slides, store) == ["S1"]


def test_what_was_left_out_of_an_annotation_is_reported(slide, tmp_path):
    point = {"geometry": {"type": "Point", "coordinates": [1, 2]}}
    (tmp_path / "S1.geojson").write_text(json.dumps([point, point]))
    other = slide.model_copy(update={"annotation_path": tmp_path / "S1.geojson"})
    notes: list[str] = []
    prepare([other], tmp_path / "tiles", LabelRules(), note=notes.append)
    assert notes == ["Left out of the annotation of S1: 2 Point."]


@pytest.mark.parametrize(("tags_um", "is_wrong"), [(2.9, False), (3.57, True)])
def test_a_slide_of_a_doubtful_scale_is_reported_and_one_of_a_wrong_scale_refused(
    slide, tags_um, is_wrong, tmp_path
):
    image = tifffile.imread(slide.he_path)
    resolution = {"resolution": (10_000 / tags_um,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        slide.he_path,
        image,
        tile=(512, 512),
        photometric="rgb",
        description="AppMag = 4",
        metadata=None,
        **resolution,
    )
    notes: list[str] = []
    if is_wrong:
        with pytest.raises(PrepareError, match=r"S1: .*cannot be learned from\. .* 3\.57"):
            prepare([slide], tmp_path / "tiles", LabelRules(), note=notes.append)
    else:
        prepare([slide], tmp_path / "tiles", LabelRules(), note=notes.append)
        assert len(notes) == 1
        assert notes[0].startswith("S1: The file states 2.9 um/px (resolution tags)")


def test_only_slides_whose_regions_names_mean_something_else_are_prepared_again(slide, tmp_path):
    ring = [[512, 0], [1536, 0], [1536, 512], [512, 512]]
    for name, region_class in (("S1", "Tumor"), ("S2", "Gland")):
        region = {
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": region_class}},
        }
        (tmp_path / f"{name}.geojson").write_text(json.dumps([region]))
    slides = [
        slide.model_copy(update={"name": n, "annotation_path": tmp_path / f"{n}.geojson"})
        for n in ("S1", "S2")
    ]
    with pytest.raises(PrepareError, match=r"S2: .*'Gland'"):
        prepare(slides, tmp_path / "tiles", LabelRules())
    notes: list[str] = []
    gland = LabelRules(classes=RegionClasses({"Gland": RegionClass.TUMOR}))
    prepare(slides, tmp_path / "tiles", gland, note=notes.append)
    assert notes == []
    assert TileStore(tmp_path / "tiles", ["S1", "S2"]).table.is_tumor.all()
    other = LabelRules(classes=RegionClasses({"Gland": RegionClass.IGNORED}))
    prepare(slides, tmp_path / "tiles", other, note=notes.append)
    assert notes[0] == "Preparing S2 again because the classes of its regions' names changed."


def test_an_ihc_slide_of_another_grid_is_refused(slide, tmp_path, write_slide):
    other = slide.model_copy(update={"ihc_path": write_slide(["ss"], "ihc.tif")})
    with pytest.raises(PrepareError, match="align them first"):
        prepare([other], tmp_path / "tiles", LabelRules(ExpressionSource.DAB))


def test_brown_labels_the_h_e_tile_at_its_own_place(tmp_path, write_slide):
    white, brown = np.full((512, 512, 3), 250, np.uint8), np.full((512, 512, 3), 250, np.uint8)
    brown[:] = (120, 70, 35)
    rows = [[white, brown, white], [white, white, brown]]
    tifffile.imwrite(
        tmp_path / "ihc.tif",
        np.concatenate([np.concatenate(row, axis=1) for row in rows]),
        tile=(512, 512),
        photometric="rgb",
        description="Motic V1.0.0\n1536x1024 [0,0 1536x1024] [512x512] none|AppMag = 4|MPP = 2.5",
        metadata=None,
    )
    tifffile.imwrite(tmp_path / "mask.tif", np.ones((1024, 1536), np.uint8))
    slide = CohortSlide(
        name="S1",
        patient="P1",
        he_path=write_slide(["www", "www"]),
        ihc_path=tmp_path / "ihc.tif",
        annotation_path=tmp_path / "mask.tif",
        her2_status=Status.POSITIVE,
        split=Split.TRAIN,
        morphology={},
    )
    found = tiles(slide, LabelRules(ExpressionSource.DAB))
    strong = {(tile.column, tile.row) for tile in found if tile.strong_pixels > 512 * 256}
    assert len(found) == 6
    assert strong == {(1, 0), (2, 1)}


def test_without_its_ihc_slide_expression_is_unknown_by_dab(slide):
    found = tiles(slide, LabelRules(ExpressionSource.DAB))
    assert {tile.strong_pixels for tile in found} == {-1}


def test_prepared_tiles_come_back_from_the_store(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    store = TileStore(tmp_path / "tiles", ["S1"])
    assert store.table.strong.tolist() == [False, True]
    assert store.table.is_tumor.tolist() == [True, True]
    for index, tile in enumerate(tiles(slide, LabelRules())):
        assert np.array_equal(store.pixels(index), tile.pixels)
        assert np.array_equal(store.tumor(index), tile.tumor)


def test_strong_tiles_of_a_slide_of_ihc_0_or_1_are_reported(slide, tmp_path):
    slides = [
        slide.model_copy(update={"name": f"S{n}", "ihc_score": score})
        for n, score in enumerate(("0", "1+", "2+", "3+"))
    ]
    prepare(slides, tmp_path / "tiles", LabelRules())
    store = TileStore(tmp_path / "tiles", [s.name for s in slides])
    assert contradicting_slides(slides, store) == {"S0": 1, "S1": 1}


def test_half_of_the_tumour_is_strong_and_less_is_weak(tmp_path):
    def tile(strong: int) -> PreparedTile:
        tumor = np.zeros((512, 512), np.uint8)
        tumor[:100, :400] = 1
        return PreparedTile(0, 0, np.zeros((512, 512, 3), np.uint8), tumor, strong)

    write_slide(
        tmp_path / "S1.zarr",
        iter([tile(20_000), tile(19_999), tile(-1)]),
        expression_from="none",
        fingerprint={},
    )
    table = TileStore(tmp_path, ["S1"]).table
    assert table.strong.tolist() == [True, False, False]
    assert table.labelled.tolist() == [True, True, False]


def test_more_tiles_than_a_shard_are_kept_in_order(tmp_path):
    def tiles():
        for number in range(35):
            pixels = np.full((512, 512, 3), number, np.uint8)
            yield PreparedTile(number, 0, pixels, np.zeros((512, 512), np.uint8), 0)

    write_slide(tmp_path / "S1.zarr", tiles(), expression_from="none", fingerprint={})
    store = TileStore(tmp_path, ["S1"])
    assert [int(store.pixels(i)[0, 0, 0]) for i in (0, 15, 16, 34)] == [0, 15, 16, 34]
    assert len(list((tmp_path / "S1.zarr").rglob("*"))) < 25


def test_a_slide_stopped_in_the_middle_is_not_there(tmp_path):
    def broken():
        yield ExcludedTile(0, 0, "blurred")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_slide(tmp_path / "S1.zarr", broken(), expression_from="none", fingerprint={})
    with pytest.raises(FileNotFoundError):
        TileStore(tmp_path, ["S1"])


def test_tiles_labelled_by_other_rules_are_not_mixed(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    with pytest.raises(PrepareError, match="other rules"):
        prepare([slide], tmp_path / "tiles", LabelRules(ExpressionSource.DAB))


def again(slide: CohortSlide, directory, rules: LabelRules | None = None) -> list[str]:
    """Prepare a slide once more and return the notes."""
    notes: list[str] = []
    prepare([slide], directory, rules or LabelRules(), note=notes.append)
    return notes


def test_a_slide_of_which_nothing_changed_is_left_alone(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    written = (tmp_path / "tiles" / "S1.zarr" / "zarr.json").stat().st_mtime_ns
    assert again(slide, tmp_path / "tiles") == []
    assert (tmp_path / "tiles" / "S1.zarr" / "zarr.json").stat().st_mtime_ns == written


def test_a_changed_annotation_is_labelled_again(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    tifffile.imwrite(slide.annotation_path, np.ones((512, 1536), np.uint8))
    (note,) = again(slide, tmp_path / "tiles")
    assert note == "Preparing S1 again because its annotation changed."
    assert not TileStore(tmp_path / "tiles", ["S1"]).table.strong.any()


def test_a_changed_status_is_labelled_again(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    other = slide.model_copy(update={"her2_status": Status.NEGATIVE})
    assert again(other, tmp_path / "tiles") == [
        "Preparing S1 again because its HER2 status changed."
    ]


def test_another_path_is_prepared_again(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    moved = slide.annotation_path.rename(tmp_path / "other.tif")
    other = slide.model_copy(update={"annotation_path": moved})
    assert again(other, tmp_path / "tiles") == [
        "Preparing S1 again because its annotation changed."
    ]


def test_one_more_excluded_tile_is_a_matter_of_its_slide_only(slide, tmp_path):
    second = slide.model_copy(update={"name": "S2"})
    prepare([slide, second], tmp_path / "tiles", LabelRules())
    notes: list[str] = []
    rules = LabelRules(excluded={("S2", 1, 0): "blurred"})
    prepare([slide, second], tmp_path / "tiles", rules, note=notes.append)
    assert notes == ["Preparing S2 again because its excluded tiles changed."]
    assert TileStore(tmp_path / "tiles", ["S1", "S2"]).table.slide.tolist() == [0, 0, 1]


def test_tiles_of_unknown_inputs_are_refused(slide, tmp_path):
    prepare([slide], tmp_path / "tiles", LabelRules())
    path = tmp_path / "tiles" / "S1.zarr" / "zarr.json"
    group = json.loads(path.read_text())
    del group["attributes"]["fingerprint"]
    path.write_text(json.dumps(group))
    with pytest.raises(PrepareError, match="was not written by this version"):
        again(slide, tmp_path / "tiles")
