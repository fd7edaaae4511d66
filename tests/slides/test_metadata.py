"""Magnification, resolution and barcode are read from the descriptions of each vendor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from her2d.slides.errors import RefusedError, SlideError
from her2d.slides.metadata import (
    BarcodeSource,
    MagnificationSource,
    Resolution,
    SlideMetadata,
    describe,
    read_description,
)
from her2d.slides.reader import open_slide

MOTIC = (
    "Motic V1.0.0\n53046x51735 [0,0 53046x51735] [512x512] JPEG/RGB Q = 75|AppMag = 40|"
    "MPP = 0.260417|BackgroundColor = 16514557|Barcode = 900444"
)
OLD_MOTIC = (
    "Motic V1.0.0 53046x51735 [0,0 53046x51735] [512x512] JPEG/RGB Q = 75|AppMag = 40|"
    "MPP = 0.260417"
)
APERIO = (
    "Aperio Image Library v11.2.1 \r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG/RGB Q=30;"
    "Aperio Image Library v10.0.51\r\n46920x33014 [0,100 46000x32914] (256x256) JPEG/RGB Q=30|"
    "AppMag = 20|StripeWidth = 2040|Filename = CMU-1|MPP = 0.4990|Left = 25.691574"
)
OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
  <Instrument ID="Instrument:0">
    <Objective ID="Objective:0" NominalMagnification="63"/>
    <Objective ID="Objective:1" NominalMagnification="40.0"/>
  </Instrument>
  <Image ID="Image:0"><ObjectiveSettings ID="Objective:1"/>
    <Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="9" SizeY="9" SizeC="3"
      SizeZ="1" SizeT="1" PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}">
    </Pixels></Image></OME>"""


def described(
    *texts: str, resolution: Resolution | None = None, assume: float | None = None
) -> SlideMetadata:
    return describe(texts, resolution, width=4000, height=3000, assume_magnification=assume)


def test_motic_states_magnification_mpp_and_barcode() -> None:
    assert described(MOTIC) == SlideMetadata(
        vendor="motic",
        magnification=40.0,
        mpp=0.260417,
        barcode="900444",
        width=4000,
        height=3000,
        magnification_source=MagnificationSource.APP_MAG,
        barcode_source=BarcodeSource.DESCRIPTION,
    )


def test_older_motic_files_have_one_line_and_no_barcode() -> None:
    metadata = described(OLD_MOTIC)
    assert (metadata.vendor, metadata.magnification, metadata.mpp) == ("motic", 40.0, 0.260417)
    assert (metadata.barcode, metadata.barcode_source) == (None, None)


def test_aperio_states_them_after_the_history_of_the_file() -> None:
    metadata = described(APERIO)
    assert (metadata.vendor, metadata.magnification, metadata.mpp) == ("aperio", 20.0, 0.499)


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [("0.25", "µm", 0.25), ("250", "nm", 0.25), ("0.00025", "mm", 0.25), ("0.25", "pixel", None)],
)
def test_ome_states_them_in_xml_and_in_several_units(
    size: str, unit: str, mpp: float | None
) -> None:
    metadata = described(OME.format(size=size, unit=unit))
    assert metadata.vendor == "ome"
    assert metadata.magnification == 40.0  # of the objective that the image names
    assert metadata.mpp == (None if mpp is None else pytest.approx(mpp))
    assert metadata.magnification_source is MagnificationSource.NOMINAL_MAGNIFICATION


def test_ome_xml_with_a_dtd_is_not_parsed() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]>' + OME.format(size="0.25", unit="µm")
    assert read_description(bomb).magnification is None


@pytest.mark.parametrize("text", [OME[:300], "<OME", "<OME/>", "", "\0\0", "AppMag = |MPP=x"])
def test_a_damaged_description_states_nothing(text: str) -> None:
    stated = read_description(text)
    assert stated.magnification is None
    assert stated.mpp is None


@pytest.mark.parametrize(
    "field", ["Barcode = S-1", "barcode: S-1", "条码＝S-1", "條形碼：S-1", "バーコード：S-1"]
)
def test_the_barcode_has_names_in_other_scripts(field: str) -> None:
    assert read_description(f"Motic V1.0.0｜AppMag＝20｜{field}｜备注：无").barcode == "S-1"


def test_appmag_alone_is_enough() -> None:
    metadata = described("Motic V1.0.0\n100x100 [512x512] JPEG/RGB Q = 75|AppMag = 20")
    assert (metadata.magnification, metadata.mpp) == (20.0, None)


@pytest.mark.parametrize(
    ("field", "magnification", "source"),
    [
        ("AppMag = 20X", 20.0, "AppMag"),
        ("AppMag = 20 x", 20.0, "AppMag"),
        ("AppMag = x20", 20.0, "AppMag"),
        ("AppMag = 20×", 20.0, "AppMag"),
        ("AppMag＝２０", 20.0, "AppMag"),
        ("Objective＝Plan Apo ２．５ｘ／０．０８", 2.5, "Objective"),
        ("放大倍数：20倍", 20.0, "Magnification"),
        ("操作员：李｜物镜：20x｜备注：无", 20.0, "Objective"),
        ("AppMag = 40,0", 40.0, "AppMag"),
        ("APPMAG=40.", 40.0, "AppMag"),
        ("Magnification = 40", 40.0, "Magnification"),
        ("Magnification: 40x", 40.0, "Magnification"),
        ("Objective = 20X", 20.0, "Objective"),
        ("Objective = Plan Apo 20x/0.75", 20.0, "Objective"),
        ("Objective Power = 40", 40.0, "Objective"),
        ("objective_magnification = 10", 10.0, "Objective"),
        ("物镜 = 40倍", 40.0, "Objective"),
        ("Magnification = 40|AppMag = 20", 20.0, "AppMag"),
    ],
)
def test_a_magnification_is_read_in_every_common_form(
    field: str, magnification: float, source: str
) -> None:
    metadata = described(f"Motic V1.0.0\n100x100 [512x512] JPEG/RGB Q = 75|{field}|Barcode = 1")
    assert metadata.magnification == magnification
    assert metadata.magnification_source == source
    assert metadata.barcode == "1"


@pytest.mark.parametrize(
    "field", ["Objective = 20x and 40x", "Magnification = about", "Mag = 20%", "AppMag = ٢٠"]
)
def test_a_magnification_that_is_not_clear_is_none(field: str) -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described(field)


@pytest.mark.parametrize(
    ("field", "mpp"),
    [
        ("MPP = 2.5 um", 2.5),
        ("MPP = 0,25", 0.25),
        ("MPP＝０．２５ｕｍ", 0.25),
        ("MPP = 0.25 µm", 0.25),
        ("MPP = 0.25μm/px", 0.25),
        ("MPP = 250 nm per pixel", 0.25),
        ("MPP = 2.5e-1 microns", 0.25),
        ("MPP = .25", 0.25),
        ("mpp-x = 0.25", 0.25),
    ],
)
def test_a_resolution_is_read_with_its_unit(field: str, mpp: float) -> None:
    assert described(field).mpp == pytest.approx(mpp)


@pytest.mark.parametrize("field", ["MPP = 0.25 furlongs", "MPP = 0.25 0.50", "MPP = um"])
def test_a_resolution_in_an_unknown_unit_is_none(field: str) -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described(field)


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [("micron", 4.0), ("um", 4.0), ("\\u00B5m", 4.0), ("µm", 4.0), ("mm", 4e3), ("cm", 4e4)],
)
def test_imagej_states_the_unit_of_the_resolution_tags(unit: str, per_unit: float) -> None:
    text = f"ImageJ=1.54f\nunit={unit}\nmin=0.0\nmax=255.0\n"
    metadata = described(text, resolution=Resolution(per_unit, per_unit, unit=1))
    assert (metadata.magnification, metadata.mpp) == (40.0, 0.25)
    assert metadata.magnification_source is MagnificationSource.RESOLUTION_TAGS


def test_imagej_in_pixels_states_no_resolution() -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described("ImageJ=1.54f\nunit=pixel\n", resolution=Resolution(4, 4, unit=1))


@pytest.mark.parametrize(("mpp", "magnification"), [(0.260417, 40), (0.499, 20), (2.5, 4), (1, 10)])
def test_mpp_alone_gives_the_nearest_objective(mpp: float, magnification: float) -> None:
    metadata = described(f"Motic V1.0.0\n100x100 JPEG/RGB Q = 75|MPP = {mpp}")
    assert metadata.magnification == magnification
    assert metadata.mpp == mpp
    assert metadata.magnification_source is MagnificationSource.MPP


def test_an_mpp_between_objectives_gives_a_magnification_between_them() -> None:
    assert described("MPP = 0.3333").magnification == pytest.approx(30, abs=0.01)


def test_resolution_tags_replace_a_missing_mpp() -> None:
    metadata = described("", resolution=Resolution(40_000, 40_000, unit=3))
    assert (metadata.magnification, metadata.mpp) == (40.0, 0.25)
    assert metadata.magnification_source is MagnificationSource.RESOLUTION_TAGS


@pytest.mark.parametrize("dpi", [1, 72, 96, 150, 300, 600, 1200])
def test_resolutions_of_screens_and_printers_are_ignored(dpi: float) -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described("", resolution=Resolution(dpi, dpi, unit=2))


@pytest.mark.parametrize(
    "resolution",
    [Resolution(40_000, 20_000, 3), Resolution(40_000, 40_000, 1), Resolution(0, 0, 3)],
)
def test_resolutions_without_a_meaning_are_ignored(resolution: Resolution) -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described("", resolution=resolution)


def test_resolution_tags_that_contradict_appmag_are_ignored() -> None:
    metadata = described("AppMag = 40", resolution=Resolution(10_000, 10_000, unit=3))
    assert (metadata.magnification, metadata.mpp) == (40.0, None)


def test_an_mpp_that_contradicts_appmag_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"AppMag = 40 and MPP = 0\.5 cannot both be right"):
        described("AppMag = 40|MPP = 0.5")


@pytest.mark.parametrize(
    ("appmag", "mpp", "magnification"),
    [(20, 0.2428, 40), (20, 0.345, 29), (20, 0.25, 40), (10, 1.29, 7.75), (20, 0.1725, 60)],
)
def test_the_mpp_of_a_camera_with_an_adapter_gives_the_scale(
    appmag: float, mpp: float, magnification: float
) -> None:
    metadata = described(f"AppMag = {appmag}|MPP = {mpp}")
    assert metadata.magnification == pytest.approx(magnification, abs=0.05)
    assert metadata.mpp == mpp
    assert metadata.magnification_source is MagnificationSource.MPP


def test_the_objective_gives_the_scale_where_mpp_differs_by_what_scanners_differ() -> None:
    metadata = described("AppMag = 20|MPP = 0.4545")
    assert metadata.magnification == 20.0
    assert metadata.magnification_source is MagnificationSource.APP_MAG


def test_an_assumed_magnification_settles_a_contradiction() -> None:
    metadata = described("AppMag = 40|MPP = 0.5", assume=20)
    assert (metadata.magnification, metadata.mpp) == (20, 0.5)
    assert metadata.magnification_source is MagnificationSource.ASSUMED


def test_an_assumed_magnification_never_overrides_a_stated_one() -> None:
    assert described(MOTIC, assume=20).magnification == 40.0


@pytest.mark.parametrize("value", ["0", "-40", "nan", "inf", "1e9", "forty"])
def test_an_implausible_magnification_is_ignored(value: str) -> None:
    with pytest.raises(RefusedError, match="no magnification"):
        described(f"AppMag = {value}")


def test_what_level_0_does_not_state_is_taken_from_the_first_image() -> None:
    metadata = described("Motic V1.0.0\n100x100", MOTIC)
    assert (metadata.vendor, metadata.magnification, metadata.barcode) == ("motic", 40.0, "900444")


def test_a_barcode_is_kept_whole() -> None:
    barcode = "https://lis.example/slide?" + "0123456789" * 50
    assert described(f"{MOTIC[:-6]}{barcode}").barcode == barcode


def test_characters_of_a_barcode_that_cannot_be_printed_are_escaped() -> None:
    assert described(f"{MOTIC[:-6]}01\x1d17\u202e5").barcode == "01\\x1d17\\u202e5"


def test_a_barcode_longer_than_any_symbol_says_that_it_was_cut() -> None:
    barcode = described(f"{MOTIC[:-6]}{'7' * 9000}").barcode
    assert barcode == f"{'7' * 8192}… (cut, the file states 9000 characters)"


OPERATOR = f"{MOTIC}|Operator = "


@pytest.mark.parametrize(
    ("raw", "operator"),
    [
        (f"{OPERATOR}北京".encode(), "北京"),
        (f"{OPERATOR}北京".encode("utf-8-sig"), "北京"),
        (f"{OPERATOR}張偉".encode("gbk"), "張偉"),
        (f"{OPERATOR}ポポ".encode("cp932"), None),
        (f"{OPERATOR}北京协和医院".encode()[:-2], "北京协和医\ufffd"),
        (f"{OPERATOR}Müller".encode("cp1252"), None),
        (OPERATOR.encode() + b"\xff\xfe\x81\xff", None),
        (f"{OPERATOR}北京".encode("utf-16"), "北京"),
        (f"{OPERATOR}北京".encode("utf-16-le"), "北京"),
        (f"{OPERATOR}北京".encode("utf-16-be") + bytes(2), "北京"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_what_a_description_states_is_read_in_every_encoding(
    write: Callable[..., Path], retag: Callable[..., Path], raw: bytes, operator: str | None
) -> None:
    path = write(np.zeros((600, 600, 3), np.uint8), tile=(256, 256))
    for kind in (2, 1, 7):  # ASCII, BYTE, UNDEFINED
        with open_slide(retag(path, {270: (kind, len(raw) + 1, raw + b"\0")})) as slide:
            metadata = slide.metadata
            assert (metadata.magnification, metadata.mpp) == (40.0, 0.260417)
            assert metadata.barcode == "900444"
            if operator is not None:
                assert slide.properties["motic.Operator"] == operator


@pytest.mark.parametrize(
    ("raw", "mpp"),
    [
        # The second byte of a character is a bar, which ends a field in ASCII.
        ("Motic\n1x1 Q = 75|Operator = ポ|MPP = 0.25".encode("cp932"), 0.25),
        # In GBK the last character would be another one, and the unit unknown.
        ("Motic\n1x1 Q = 75|MPP = 0.25 µm".encode("cp1252"), 0.25),
        ("Motic\n1x1 Q = 75|Operator = ｱ|MPP = 0.25".encode("cp932"), 0.25),
    ],
)
def test_of_two_encodings_the_one_that_states_more_is_right(
    write: Callable[..., Path], retag: Callable[..., Path], raw: bytes, mpp: float
) -> None:
    path = write(np.zeros((600, 600, 3), np.uint8), tile=(256, 256))
    with open_slide(retag(path, {270: (2, len(raw) + 1, raw + b"\0")})) as slide:
        assert slide.metadata.mpp == mpp


def test_a_stated_magnification_beats_an_assumed_one_in_every_form(
    write: Callable[..., Path], retag: Callable[..., Path]
) -> None:
    raw = f"Motic V1.0.0\n600x600|AppMag = 20X|Operator = {'高橋'}\0".encode("cp932")
    path = write(np.zeros((600, 600, 3), np.uint8), tile=(256, 256))
    with open_slide(retag(path, {270: (2, len(raw), raw)}), assume_magnification=4) as slide:
        assert slide.metadata.magnification == 20.0


def test_a_slide_without_magnification_says_what_to_do(write: Callable[..., Path]) -> None:
    path = write(np.zeros((600, 600, 3), np.uint8), description="a holiday picture")
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(caught.value) == f"scan.tif {caught.value.reason}"
    assert "neither AppMag nor MPP" in caught.value.reason
    assert "set assume_magnification in config.toml" in caught.value.reason


def test_resolution_tags_are_read_from_the_file(write: Callable[..., Path]) -> None:
    options: dict[str, Any] = {"resolution": (4000, 4000), "resolutionunit": "CENTIMETER"}
    path = write(np.zeros((600, 600, 3), np.uint8), description="", **options)
    with open_slide(path) as slide:
        assert slide.metadata.magnification == 4.0
        assert slide.grid.um_per_px == 2.5


def test_channels_stored_as_separate_images_are_not_a_bright_field_scan(
    write: Callable[..., Path],
) -> None:
    path = write(np.zeros((600, 600), np.uint8), description="AppMag = 4")
    text = OME.format(size="0.25", unit="um").replace("\n", " ")
    path = write(np.zeros((600, 600), np.uint8), description=text, name="ome.tif")
    with pytest.raises(SlideError, match="3 channels as separate images"):
        open_slide(path)
