"""Find a slide by its id, file name or barcode, or say why it has no result."""

from pathlib import Path
from typing import Annotated

import typer
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.queue.job import Job
from her2d.results.queries import IS_NAMED, SlideNotFound, find_slide
from her2d.results.records import SlideResult
from her2d.system.text import readable_text

SlideArgument = Annotated[
    str,
    typer.Argument(
        help="Slide id, file name or barcode; id:7, barcode:7 or name:7 where it means several."
    ),
]

_NEWEST_JOB = f"select * from jobs where {IS_NAMED} order by id desc limit 1"


def result_of(db: Database, key: str) -> SlideResult:
    """Return the current result of a slide.

    Raises:
        UserError: a file of that name has no result; the sentence has its job's state and reason.
        SlideNotFound: there is no slide and no job of that name.
        AmbiguousSlide: several slides match.
    """
    try:
        return find_slide(db, key)
    except SlideNotFound as error:
        name = readable_text(key).removeprefix("name:")
        for row in db.query(_NEWEST_JOB, {"key": name}):
            raise UserError(_why_no_result(Job.of(row))) from error
        raise


def heatmap_of(result: SlideResult) -> Path:
    """Return the path of a result's heatmap. Raises UserError if it is missing."""
    if result.heatmap_path is None:
        raise UserError(f"{result.file_name} has no heatmap.")
    path = Path(result.heatmap_path)
    if not path.is_file():
        raise UserError(f"The heatmap of {result.file_name} is missing. It was written to {path}.")
    return path


def _why_no_result(job: Job) -> str:
    sentence = f"There is no result for {job.path.name}. Its job {job.id} is {job.state}."
    return f"{sentence} {job.reason}" if job.reason else sentence
