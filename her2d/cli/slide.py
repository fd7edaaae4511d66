"""A slide by the name a person has for it, or why it has no result."""

from typing import Annotated

import typer
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.queue.job import Job
from her2d.results.queries import SlideNotFound, find_slide
from her2d.results.records import SlideResult

SlideArgument = Annotated[str, typer.Argument(help="Slide id, file name or barcode.")]

_NEWEST_JOB = """
    select * from jobs
    where file_name in (:key, :key || '.tif', :key || '.tiff', :key || '.svs')
    order by id desc limit 1
"""


def result_of(db: Database, key: str) -> SlideResult:
    """The current result of a slide.

    Raises:
        UserError: a file of that name has none; the sentence has its job's state and reason.
        SlideNotFound: neither is there.
        AmbiguousSlide: there are several.
    """
    try:
        return find_slide(db, key)
    except SlideNotFound as error:
        for row in db.query(_NEWEST_JOB, {"key": key}):
            raise UserError(_why_there_is_none(Job.of(row))) from error
        raise


def _why_there_is_none(job: Job) -> str:
    said = f"There is no result for {job.path.name}: its job {job.id} is {job.state}"
    return f"{said}. {job.reason}" if job.reason else f"{said}."
