"""What the webhook sends of each kind of event, and its JSON Schema.

The form is that of Standard Webhooks: `type`, `timestamp` and `data`, with the version beside them.
A field that is added leaves SCHEMA_VERSION as it is, so receivers must allow for fields that they
do not know. It changes when a field is removed or renamed, or means something else. A result of a
bundle that calls slides as a whole has no value where version 1 promises one, so it is sent as
version 2; everything else stays version 1.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from her2d.method import MethodName
from her2d.results.records import SlideResult

Version = Literal["1", "2"]

SCHEMA_VERSION: Final = "1"
_OF_WHOLE_SLIDES: Final = "2"
_SCHEMA_ID = f"urn:her2d:webhook:{_OF_WHOLE_SLIDES}"


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class RenamedResult(SlideResult):
    """A slide's result under its new name."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    former_file_name: str | None
    """The name that the file had before."""


class JobData(_Model):
    """A file that did not lead to a result."""

    job_id: int
    """The job in the queue (`her2d queue ls`)."""
    path: str
    """Where the file was found."""
    file_name: str
    """The file's name; bytes that are not UTF-8 are written as `\\xff`."""
    barcode: str | None
    """The slide's barcode, from the file's description or its label; null if none could be read."""
    attempts: int
    """How often the file was tried."""
    reason: str | None
    """What happened, in one sentence for people."""


class FailureData(JobData):
    """A file that could not be scored."""

    will_retry: bool
    """Whether it is tried again without a person."""


class DuplicateData(JobData):
    """A file with the same bytes as a slide that has a result."""

    slide_id: int | None
    """The slide that has the result; its own file may have been renamed."""


class _Event(_Model):
    schema_version: Version = SCHEMA_VERSION
    """The version of this form: 2 for a result of a bundle that calls slides as a whole, else 1."""
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it happened, in UTC; a repetition has the same."""


class ResultEvent(_Event):
    """A slide has a result."""

    type: Literal["slide.result"] = "slide.result"
    data: SlideResult


class RenamedEvent(_Event):
    """A slide's file has another name."""

    type: Literal["slide.renamed"] = "slide.renamed"
    data: RenamedResult


class DuplicateEvent(_Event):
    """A file has the same bytes as a slide that has a result."""

    type: Literal["slide.duplicate"] = "slide.duplicate"
    data: DuplicateData


class FailedEvent(_Event):
    """An attempt to score a file failed, and it will be tried again."""

    type: Literal["slide.failed"] = "slide.failed"
    data: FailureData


class QuarantinedEvent(_Event):
    """A file cannot be scored, and a person must look at it."""

    type: Literal["slide.quarantined"] = "slide.quarantined"
    data: FailureData


class CancelledEvent(_Event):
    """A person cancelled a waiting file."""

    type: Literal["slide.cancelled"] = "slide.cancelled"
    data: FailureData


def version_of(result: SlideResult) -> Version:
    """Return the version of the form in which a result is sent."""
    return _OF_WHOLE_SLIDES if result.method is MethodName.MIL else SCHEMA_VERSION


EVENTS: tuple[type[_Event], ...] = (
    ResultEvent,
    FailedEvent,
    QuarantinedEvent,
    CancelledEvent,
    DuplicateEvent,
    RenamedEvent,
)
"""Every kind of event."""

_ANY: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        ResultEvent
        | FailedEvent
        | QuarantinedEvent
        | CancelledEvent
        | DuplicateEvent
        | RenamedEvent,
        Field(discriminator="type"),
    ]
)


def webhook_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every document that the webhook sends."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _SCHEMA_ID,
        "title": f"Webhook of her2d, versions {SCHEMA_VERSION} and {_OF_WHOLE_SLIDES}",
        **_ANY.json_schema(mode="serialization"),
    }
