"""Find the result of one slide or run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from her2d.errors import Her2dError
from her2d.results.records import SlideResult
from her2d.system.text import printable, readable_text

_MOST_LISTED = 10
_ID = re.compile("[1-9][0-9]{0,17}")
_KINDS = ("id", "barcode", "name")


class SlideNotFound(Her2dError):  # noqa: N818  reads as what it says
    """No slide has that id, file name or barcode."""


class AmbiguousSlide(Her2dError):  # noqa: N818
    """Several slides have that id, file name or barcode; `str(error)` lists them."""


class BundleNotFound(Her2dError):  # noqa: N818
    """No bundle of that name or digest has scored slides."""


class AmbiguousBundle(Her2dError):  # noqa: N818
    """Several bundles have that name."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A slide or, without a result, a job that a key may mean.

    Attributes:
        id: of the slide, or of the job.
        has_result: whether it is a slide.
        file_name: of the scan.
        how: by which of its names the key means it.
    """

    id: int
    has_result: bool
    file_name: str
    how: str

    def __str__(self) -> str:
        kind = "slide" if self.has_result else "no result yet, job"
        return f"{printable(self.file_name)} ({kind} {self.id}, by its {self.how})"


def find_slide(db: Database, key: str) -> SlideResult:
    """Find a slide's current result.

    A key is never guessed: where it is the id of one slide and the barcode of another, both are
    meant.

    Args:
        db: the database.
        key: the slide's id, file name (with or without its extension) or barcode, that of the label
            included. `id:7`, `barcode:7` and `name:7` mean only the one.

    Raises:
        SlideNotFound: no slide matches.
        AmbiguousSlide: several slides match, or a slide and a file that has no result.
    """
    text = readable_text(key)
    kind, colon, rest = text.partition(":")
    found = _candidates(db, text, _KINDS)
    if colon and kind in _KINDS:
        found += _candidates(db, rest, (kind,))
    slides = {candidate.id for candidate in found if candidate.has_result}
    if not slides:
        raise SlideNotFound(
            f"There is no result for a slide {text!r}; see her2d results and her2d queue ls."
        )
    others = [candidate for candidate in found if not candidate.has_result]
    if len(slides) > 1 or others:
        raise AmbiguousSlide(_several(text, found))
    return result_of_slide(db, slides.pop())


def result_of_slide(db: Database, slide_id: int) -> SlideResult:
    """Return a slide's current result. Raises SlideNotFound if no slide has the id."""
    for row in db.query("select * from slide_results where slide_id = ?", [slide_id]):
        return SlideResult.model_validate(row)
    raise SlideNotFound(f"There is no slide with the id {slide_id}; see her2d results.")


def _candidates(db: Database, key: str, kinds: Sequence[str]) -> list[_Candidate]:
    """Return what a key may mean, each slide once for each of its names that the key is."""
    found: list[_Candidate] = []
    if key == "":
        return found
    if "id" in kinds and _ID.fullmatch(key):
        found += _slides(db, "id = :key", int(key), "id")
    if "barcode" in kinds:
        found += _slides(db, "barcode = :key", key, "barcode")
        found += _slides(db, "label_barcode = :key", key, "barcode on the label")
    if "name" in kinds:
        named = _slides(db, IS_NAMED, key, "file name")
        found += named or _formerly_named(db, key) or _jobs(db, key)
    return found


def _formerly_named(db: Database, key: str) -> list[_Candidate]:
    """Return the slides whose files had that name before they were renamed."""
    rows = db.query(
        "select id, file_name from slides where id in"
        f" (select slide_id from former_names where {IS_NAMED}) order by id",
        {"key": key},
    )
    return [_Candidate(row["id"], True, row["file_name"], "former file name") for row in rows]


# The condition on a row's file name; without its extension, too. "." is the character before "/".
IS_NAMED = """
    file_name = :key
    or (file_name > :key || '.' and file_name < :key || '/'
        and instr(substr(file_name, length(:key) + 2), '.') = 0)
"""


def _slides(db: Database, condition: str, key: str | int, how: str) -> list[_Candidate]:
    rows = db.query(f"select id, file_name from slides where {condition} order by id", {"key": key})
    return [_Candidate(row["id"], True, row["file_name"], how) for row in rows]


def _jobs(db: Database, key: str) -> list[_Candidate]:
    """Return the newest job of each file of that name, or the slide that the file turned out to be.

    The same bytes under another name are the same slide, which is known by its newest name.
    """
    rows = db.query(
        "select id, file_name, slide_id from jobs where state <> 'vanished' and id in"
        f" (select max(id) from jobs where {IS_NAMED} group by path) order by id",
        {"key": key},
    )
    return [
        _Candidate(row["id"], False, row["file_name"], "file name")
        if row["slide_id"] is None
        else _Candidate(row["slide_id"], True, row["file_name"], "file name")
        for row in rows
    ]


def _several(key: str, found: Sequence[_Candidate]) -> str:
    listed = "; ".join(map(str, found[:_MOST_LISTED]))
    if len(found) > _MOST_LISTED:
        listed += f"; and {len(found) - _MOST_LISTED} more"
    ids = list(dict.fromkeys(f"id:{each.id}" for each in found if each.has_result))
    return (
        f"{key!r} means several slides: {listed}. Name one by its id, such as"
        f" {' or '.join(ids[:2])}."
    )


def result_of_run(db: Database, run_id: int) -> SlideResult:
    """Find a run's result, if it is its slide's current one. Raises KeyError if it is not."""
    for row in db.query("select * from slide_results where run_id = ?", [run_id]):
        return SlideResult.model_validate(row)
    raise KeyError(run_id)


# Four look-ups in an index: "is" also finds what was not noted.
_MAY_BE = """
    select 1 from (select :size as size union all select null) as sizes
    cross join (select :first_block as first_block union all select null) as blocks
    cross join slides on slides.size is sizes.size and slides.first_block is blocks.first_block
    where exists (select 1 from runs where runs.slide_id = slides.id
                  and runs.bundle_id = (select id from bundles where digest = :bundle))
    limit 1
"""


def slide_with_result(db: Database, content_hash: str, bundle_digest: str) -> int | None:
    """Return the id of the slide with that content if the bundle has scored it, else None."""
    rows = db.query(
        "select slides.id from slides join runs on runs.slide_id = slides.id"
        " join bundles on bundles.id = runs.bundle_id"
        " where slides.content_hash = ? and bundles.digest = ? limit 1",
        [content_hash, bundle_digest],
    )
    return next((int(row["id"]) for row in rows), None)


def may_have_result(db: Database, size: int, first_block: str, bundle_digest: str) -> bool:
    """Return whether the bundle has scored a slide that may have the content of a file.

    Args:
        db: the database.
        size: of the file, in bytes; of all files together if the scan has several.
        first_block: hash of its first block. A slide of which it was not noted may be any.
        bundle_digest: the bundle's.
    """
    values = {"size": size, "first_block": first_block, "bundle": bundle_digest}
    rows = db.query(_MAY_BE, values)
    return any(True for _ in rows)
