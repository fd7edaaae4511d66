"""Magnification, resolution and barcode are read from the descriptions of each vendor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from her2d.slides.errors import RefusedError, SlideError
from her2d.slides.metadata import (
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
    )


def test_older_motic_files_have_one_line_and_no_barcode() -> None:
    metadata = described(OLD_MOTIC)
    assert (metadata.vendor, metadata.magnification, metadata.mpp) == ("motic", 40.0, 0.260417)
    assert metadata.barcode is None


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


def test_appmag_alone_is_enough() -> None:
    metadata = described("Motic V1.0.0\n100x100 [512x512] JPEG/RGB Q = 75|AppMag = 20")
    assert (metadata.magnification, metadata.mpp) == (20.0, None)


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
