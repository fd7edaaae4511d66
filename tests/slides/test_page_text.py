"""A page's description says whether the page is the scan, a level, a label or a macro."""

import pytest

from her2d.slides.page_text import PageStatement, name_within, read_statement


@pytest.mark.parametrize(
    "text",
    [
        "Motic V1.0.0\nmacro 3000x3000",
        "Motic V1.0.0\r\nmacro 3000x3000",
        "Motic V1.0.0\rMACRO 3000x3000",
        "Motic V1.0.0 macro 3000x3000",
        "Motic macro 3000 x 3000",
        "Aperio Image Library v11.2.1 \nmacro 1280x431",
        "Aperio Image Library v10.2b Macro 1280x431",
        "Macro",
        "macro image",
        "Macro_Image",
        "Slide macro: 1280x431",
        "Motic V1.0.0\n宏观图 160x456",
        "麦克奥迪 V1.0.0\r宏图",
        "Aperio\nmacro 1280x431|AppMag = 20",
    ],
)
def test_a_macro_is_known_in_every_form(text: str) -> None:
    assert read_statement(text).name == "macro"


@pytest.mark.parametrize(
    "text",
    ["Motic V1.0.0\nlabel 387x463", "LABEL", "Label_Image", "Motic V1.0.0 标签 96x112", "標籤"],
)
def test_a_label_is_known_in_every_form(text: str) -> None:
    assert read_statement(text).name == "label"


@pytest.mark.parametrize(
    "text",
    [
        "Motic V1.0.0\n53046x51735 -> 847x826",
        "Motic V1.0.0 53046x51735 -> 847x826 - ",
        "Aperio Image Library v10.0.51\r\n46920x33014 [0,100 46000x32914] (256x256) -> 1024x732 -",
        "Thumbnail",
        "缩略图",
    ],
)
def test_a_thumbnail_is_known_by_its_arrow_or_its_name(text: str) -> None:
    assert read_statement(text).name == "thumbnail"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Motic V1.0.0\n53046x51735 [0,0 53046x51735] [512x512] JPEG/RGB Q = 75", (53046, 51735)),
        ("Motic V1.0.0 53046x51735 [0,0 53046x51735] [512x512] JPEG/RGB", (53046, 51735)),
        ("Aperio Image\r\n46000x32914 [42673,5576 2220x2967] (240x240) JPEG", (2220, 2967)),
        ("Aperio Image Library v11.0.37\r\n4443x3567 (256x256) J2K/KDU Q=70", (4443, 3567)),
    ],
)
def test_a_scan_states_its_own_size(text: str, size: tuple[int, int]) -> None:
    assert read_statement(text) == PageStatement(scan=size)


def test_a_level_states_the_scan_that_it_is_a_level_of() -> None:
    text = "Aperio\r\n46920x33014 [0,100 46000x32914] (256x256) -> 11500x8228 JPEG/RGB Q=70"
    assert read_statement(text) == PageStatement(scan=(46000, 32914), reduced_to=(11500, 8228))


def test_a_level_may_state_its_number() -> None:
    statement = read_statement("level=2 mag=10 quality=90")
    assert (statement.number, statement.magnification) == (2, 10.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A labelled section, macro dissected",
        "The label of this slide was lost",
        "Motic V1.0.0\n160x456",
        "AppMag = 4|Filename = macro 12x13|Title = label",
        "<?xml version='1.0'?><OME>macro</OME>",
        "{'shape': [700, 1100, 3]}",
    ],
)
def test_other_texts_state_nothing(text: str) -> None:
    assert read_statement(text) == PageStatement()


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("macro image", "macro"),
        ("S12-345.svs [label]", "label"),
        ("Overview", "overview"),
        ("macrodissected", None),
        ("Unlabelled", None),
        ("", None),
    ],
)
def test_a_title_may_contain_the_name(title: str, name: str | None) -> None:
    assert name_within(title) == name
