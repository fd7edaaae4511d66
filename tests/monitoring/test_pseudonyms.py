"""Log lines without the names of patients."""

import json
import logging
import re
from pathlib import Path

import pytest
import structlog

from her2d.monitoring.log import configure_logging
from her2d.monitoring.pseudonyms import Pseudonyms
from her2d.system.loggers import get_logger

KEY = b"a key of a hospital"
NAME = "张三 1957-03-02.tif"
INBOX = Path("/scans/inbox")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")  # its seconds may be a day of birth
ODD_NAMES = [
    "张三 1957-03-02.tif",
    'Wang "Xiaoming" 3.tif',
    "O'Brien \\ Zhao.svs",
    "Li\nSi.tif",
    "slide-Qian.tif",
    "Sun.tif.tif",
    "e.tif",
    "1.tif",
]


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    return Pseudonyms(KEY, (".tif", ".svs"), [INBOX, INBOX / "archive"])


def words(name: str) -> list[str]:
    """Return the words of a name, none of which may be in a line as a whole word."""
    return [word for word in re.split(r"\W+", name) if word not in ("", "tif", "svs", "slide")]


def assert_hidden(name: str, text: str) -> None:
    text = TIMESTAMP.sub("", text)
    for word in words(name):
        assert not re.search(rf"(?<!\w){word}(?!\w)", text), (word, text)


def hidden(pseudonyms, capsys, **fields: object) -> dict:
    configure_logging("json", "info", pseudonyms)
    get_logger("her2d.test").info("something", **fields)
    return json.loads(capsys.readouterr().err)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_field_contains_a_slides_name(capsys, pseudonyms, log_format):
    configure_logging(log_format, "info", pseudonyms)
    logger = get_logger("her2d.test")
    with structlog.contextvars.bound_contextvars(file=NAME):
        logger.info("slide_started")
        logger.warning("slide_quarantined", reason=f"{NAME} is cut short: 张三 1957-03-02 again")
        try:
            raise OSError(f"/scans/{NAME} cannot be read")
        except OSError as error:
            logger.error("slide_failed", exc_info=error)
    logging.getLogger("library").warning("cannot open '/scans/%s'", NAME)
    logged = capsys.readouterr().err
    assert_hidden(NAME, logged)
    assert logged.count(pseudonyms.of(NAME)) >= 4


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_with_special_characters_are_hidden_and_the_line_stays_json(capsys, pseudonyms, name):
    path = INBOX / "Zhou, Mei" / name
    error = OSError(13, "Permission denied", str(path))
    fields = hidden(
        pseudonyms,
        capsys,
        file=name,
        path=path,
        folder=str(path.parent),
        reason=str(error),
        unquoted=f"{path} is cut short",
        named=f"{name} is cut short; see {name!r}",
        nested={"files": [str(path)]},
        attempt=1,
        exc_info=error,
    )
    text = " ".join(str(value) for key, value in fields.items() if key != "timestamp")
    assert_hidden("Zhou, Mei", text)
    del fields["attempt"], fields["exception"][0]["frames"], fields["timestamp"]
    fields["exception"][0]["exc_value"] = fields["exception"][0]["exc_value"].replace(
        "[Errno 13]", ""
    )
    assert_hidden(name, json.dumps(fields, ensure_ascii=False))


def test_keys_numbers_and_the_event_stay_even_if_they_are_in_a_name(capsys, pseudonyms):
    fields = hidden(pseudonyms, capsys, file="something.tif", something=7, ratio=0.5)
    assert (fields["event"], fields["something"], fields["ratio"]) == ("something", 7, 0.5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=str(number)) for number, name in enumerate(ODD_NAMES)]
)
def test_a_name_has_the_same_pseudonym_in_all_fields(capsys, pseudonyms, name):
    path = INBOX / "Zhou, Mei" / name
    fields = hidden(
        pseudonyms,
        capsys,
        file=name,
        path=path,
        error=str(OSError(13, "Permission denied", str(path))),
        reason=f"{name} is cut short",
    )
    pseudonym = pseudonyms.of(name)
    folder = pseudonyms.of("Zhou, Mei")
    assert fields["file"] == pseudonym
    assert fields["path"] == f"{INBOX}/{folder}/{pseudonym}"
    assert fields["error"].endswith(f"'{INBOX}/{folder}/{pseudonym}'")
    assert fields["reason"] == f"{pseudonym} is cut short"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_that_no_path_field_of_the_line_names_is_hidden(capsys, pseudonyms, name):
    fields = hidden(
        pseudonyms,
        capsys,
        reason=f"no such file: {name}",
        quoted=f"no such file: {name!r}",
        unquoted=f"{INBOX}/Zhou, Mei/{name} is gone",
        at="",
    )
    del fields["timestamp"], fields["event"], fields["level"]
    assert_hidden(name, " ".join(map(str, fields.values())))
    assert_hidden("Zhou, Mei", fields["unquoted"])


def test_the_names_of_several_slides_in_one_line_are_hidden(capsys, pseudonyms):
    slides = [{"job_id": 1, "file": "Zhou.tif"}, {"job_id": 2, "file": "Wu.tif"}]
    fields = hidden(pseudonyms, capsys, slides=slides, reason="Wu cannot be read")
    assert fields["reason"] == f"{pseudonyms.of('Wu')} cannot be read"
    assert fields["slides"][1] == {"job_id": 2, "file": pseudonyms.of("Wu.tif")}


def test_the_paths_of_the_inbox_and_the_archive_are_shown(capsys, pseudonyms):
    fields = hidden(
        pseudonyms,
        capsys,
        inbox=str(INBOX),
        inboxes=[str(INBOX)],
        reason=f"The inbox {INBOX} cannot be read.",
        folder=str(INBOX / "archive" / "Zhou"),
    )
    assert fields["inbox"] == fields["inboxes"][0] == str(INBOX)
    assert fields["reason"] == f"The inbox {INBOX} cannot be read."
    assert fields["folder"].startswith(f"{INBOX}/archive/slide-")


def test_names_below_a_new_inbox_are_hidden(capsys, pseudonyms):
    pseudonyms.hide_below([Path("/new")])
    fields = hidden(pseudonyms, capsys, reason="/new/Zhou cannot be read")
    assert fields["reason"].startswith("/new/slide-")


def test_a_folder_named_after_a_patient_is_hidden(capsys, pseudonyms):
    fields = hidden(pseudonyms, capsys, path="/elsewhere/Li Si/slide 3.svs")
    assert_hidden("Li Si 3", fields["path"])


def test_text_without_names_stays_unchanged(capsys, pseudonyms):
    text = "It's 'odd': block 3,4 of 'the strip' cannot be read (I/O error)."
    assert hidden(pseudonyms, capsys, file="a.svs", reason=text)["reason"] == text


def test_a_name_has_one_pseudonym_per_key(pseudonyms):
    assert pseudonyms.of(NAME) == pseudonyms.of(NAME)
    assert pseudonyms.of(NAME) != pseudonyms.of("other.tif")
    assert pseudonyms.of(NAME) != Pseudonyms(b"another hospital", (".tif",)).of(NAME)
    assert pseudonyms.of(NAME).endswith(".tif")
