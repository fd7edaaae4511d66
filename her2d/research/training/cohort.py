"""Read and check a hospital's cohort table; HER2 status follows from the paper's rule.

The CSV has the columns slide, patient, he_path, ihc_score, fish and split, and optionally ihc_path,
annotation_path and her2_status, which is checked against the rule. All other columns are morphology
and are used unchanged in the misdiagnosis analysis. Paths are relative to the table's folder.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from her2d.errors import Her2dError
from her2d.system.files import open_table

Text = Annotated[str, Field(min_length=1)]
_NOT_MORPHOLOGY = frozenset({"her2_status"})


class CohortError(Her2dError):
    """The cohort table cannot be used; `str(error)` names every wrong row."""


class Status(StrEnum):
    """True HER2 status of a slide; INDETERMINATE is tissue without tumour, as in the results."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


class Split(StrEnum):
    """The use of a slide.

    `train` slides are divided into the five folds. `integrator` slides are kept out of the folds to
    fit the integrator on. `test` is the paper's internal test set and `external` its multi-centre
    test set.
    """

    TRAIN = "train"
    INTEGRATOR = "integrator"
    TEST = "test"
    EXTERNAL = "external"


class CohortSlide(BaseModel):
    """One slide of a checked cohort; paths are absolute."""

    model_config = ConfigDict(frozen=True)

    name: str
    patient: str
    he_path: Path
    ihc_path: Path | None
    annotation_path: Path | None
    her2_status: Status
    split: Split
    morphology: dict[str, str]
    ihc_score: str = ""
    """0, 1+, 2+ or 3+; empty if IHC was not done."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow", str_strip_whitespace=True)

    slide: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    patient: Text
    he_path: Text
    ihc_path: str = ""
    annotation_path: str = ""
    ihc_score: Literal["", "0", "1+", "2+", "3+"]
    fish: Literal["", "positive", "negative"]
    her2_status: Literal["", "positive", "negative", "indeterminate"] = ""
    split: Split

    @model_validator(mode="after")
    def _agrees_with_the_rule(self) -> "_Row":
        found = self.status
        if self.her2_status and self.her2_status != found:
            raise ValueError(
                f"her2_status is {self.her2_status}, but IHC {self.ihc_score or 'not done'} and"
                f" FISH {self.fish or 'not done'} give {found}"
            )
        return self

    @property
    def status(self) -> Status:
        """HER2 status by the rule, or INDETERMINATE if her2_status says so and IHC was not done."""
        if not self.ihc_score and not self.fish and self.her2_status == "indeterminate":
            return Status.INDETERMINATE
        return her2_status(self.ihc_score, self.fish)


def her2_status(ihc_score: str, fish: str) -> Status:
    """Derive HER2 status; IHC 3+, or IHC 2+ with positive FISH, is positive (section 4.1).

    Args:
        ihc_score: 0, 1+, 2+ or 3+.
        fish: positive, negative, or empty if FISH or another ISH was not done.

    Raises:
        ValueError: IHC is 2+ without FISH, which is equivocal, or the IHC score is missing.
    """
    match ihc_score, fish:
        case ("3+", _) | ("2+", "positive"):
            return Status.POSITIVE
        case ("0" | "1+", _) | ("2+", "negative"):
            return Status.NEGATIVE
        case "2+", _:
            raise ValueError("IHC 2+ without FISH is equivocal; add FISH or remove the slide")
    raise ValueError("the IHC score is missing, so the HER2 status is not known")


def read_cohort(path: Path, *, annotations: str | None = None) -> list[CohortSlide]:
    """Read and check a cohort table.

    Args:
        path: The CSV file.
        annotations: Pattern of the annotations' paths for a table without the annotation_path
            column, relative to its folder, such as `annotations/{slide}.geojson`.

    Raises:
        CohortError: The table is wrong; the message has a line for each wrong row.
    """
    try:
        with open_table(path) as file:
            reader = csv.DictReader(file, restval="", restkey="surplus")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"Cannot read {path}: {error}.") from error
    if not rows:
        raise CohortError(f"{path} does not list any slides.")
    slides, wrong = [], []
    for line, row in rows:
        try:
            slides.append(_slide(path.parent.resolve(), _Row.model_validate(row), annotations))
        except ValidationError as error:
            wrong += [f"line {line}: {sentence}" for sentence in _sentences(error)]
        except FileNotFoundError as error:
            wrong.append(f"line {line}: {error.filename} does not exist")
    wrong += _contradictions(slides)
    if wrong:
        raise CohortError(f"{path} has {len(wrong)} errors:\n" + "\n".join(wrong))
    return slides


def _slide(folder: Path, row: _Row, annotations: str | None) -> CohortSlide:
    annotation = row.annotation_path or (annotations or "").format(slide=row.slide)
    extra = row.model_extra or {}
    return CohortSlide(
        name=row.slide,
        patient=row.patient,
        he_path=_existing(folder / row.he_path),
        ihc_path=_existing(folder / row.ihc_path) if row.ihc_path else None,
        annotation_path=_existing(folder / annotation) if annotation else None,
        her2_status=row.status,
        split=row.split,
        ihc_score=row.ihc_score,
        morphology={name: value for name, value in extra.items() if name not in _NOT_MORPHOLOGY},
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    return path


def _sentences(error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        where = ".".join(str(key) for key in found["loc"])
        yield f"{where}: {found['msg']}" if where else found["msg"]


def _contradictions(slides: list[CohortSlide]) -> list[str]:
    """Find duplicate slides and scans, and patients in two splits."""
    wrong = [
        f"slide {name} is listed {times} times"
        for name, times in Counter(slide.name for slide in slides).items()
        if times > 1
    ]
    scans: dict[Path, list[str]] = {}
    for slide in slides:
        scans.setdefault(slide.he_path.resolve(), []).append(slide.name)
    wrong += [
        f"slides {' and '.join(names)} have the same scan, {path}"
        for path, names in scans.items()
        if len(set(names)) > 1
    ]
    splits_of: dict[str, set[Split]] = {}
    for slide in slides:
        splits_of.setdefault(slide.patient, set()).add(slide.split)
    wrong += [
        f"patient {patient} is in the splits {' and '.join(sorted(splits))}; only one is allowed"
        for patient, splits in splits_of.items()
        if len(splits) > 1
    ]
    return wrong
