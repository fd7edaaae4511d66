"""Find the result of one slide or run."""

from sqlite_utils import Database

from her2d.errors import Her2dError
from her2d.results.records import SlideResult


class SlideNotFound(Her2dError):  # noqa: N818  reads as what it says
    """No slide has that id, file name or barcode."""


class AmbiguousSlide(Her2dError):  # noqa: N818
    """Several slides have that file name or barcode."""


class BundleNotFound(Her2dError):  # noqa: N818
    """No bundle of that name or digest has scored slides."""


class AmbiguousBundle(Her2dError):  # noqa: N818
    """Several bundles have that name."""


def find_slide(db: Database, key: str) -> SlideResult:
    """Find a slide's current result.

    Args:
        db: the database.
        key: the slide's id, file name (with or without suffix) or barcode.

    Raises:
        SlideNotFound: no slide matches.
        AmbiguousSlide: several slides match; the message lists their ids.
    """
    rows = list(
        db.query(
            "select * from slide_results where slide_id = :number or file_name = :key"
            " or barcode = :key or file_name in (:key || '.tif', :key || '.tiff', :key || '.svs')"
            " order by slide_id",
            {"key": key, "number": int(key) if key.isdecimal() and len(key) < 19 else None},
        )
    )
    exact = [row for row in rows if key == str(row["slide_id"])]
    found = exact or rows
    if not found:
        raise SlideNotFound(
            f"There is no result for a slide {key!r}; see her2d results and her2d queue ls."
        )
    if len(found) > 1:
        ids = ", ".join(str(row["slide_id"]) for row in found)
        raise AmbiguousSlide(f"{key!r} matches several slides. Give one of the ids {ids}.")
    return SlideResult.model_validate(found[0])


def result_of_run(db: Database, run_id: int) -> SlideResult:
    """Find a run's result, if it is its slide's current one. Raises KeyError if it is not."""
    for row in db.query("select * from slide_results where run_id = ?", [run_id]):
        return SlideResult.model_validate(row)
    raise KeyError(run_id)


def slide_with_result(db: Database, content_hash: str, bundle_digest: str) -> int | None:
    """Return the id of the slide with that content if the bundle has scored it, else None."""
    rows = db.query(
        "select slides.id from slides join runs on runs.slide_id = slides.id"
        " join bundles on bundles.id = runs.bundle_id"
        " where slides.content_hash = ? and bundles.digest = ? limit 1",
        [content_hash, bundle_digest],
    )
    return next((int(row["id"]) for row in rows), None)
