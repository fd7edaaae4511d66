"""Five folds, stratified by HER2 status at slide level (paper, section 4.4).

The paper splits 531 slides of 520 patients without a word on patients who have two. Here, by
default, no patient is on both sides of a fold; `slide` is the paper's way.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from her2d.errors import Her2dError
from her2d.research.training.study import write_text

FOLDS = 5


class FoldsError(Her2dError):
    """Folds cannot be made or used; `str(error)` says why."""


class Grouping(StrEnum):
    """What must not be on both sides of a fold."""

    PATIENT = "patient"
    SLIDE = "slide"


class StratifiedSlide(Protocol):
    """What folds need to know of a slide."""

    @property
    def name(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def her2_status(self) -> str: ...


class Folds(BaseModel):
    """The fold each slide is held out in, as kept in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    grouping: Grouping
    held_out_in: dict[str, int]
    her2_status: dict[str, str] | None = None
    """By which they were stratified; None is what her2d did not keep once."""


def assign_folds(
    slides: Sequence[StratifiedSlide], seed: int, grouping: Grouping = Grouping.PATIENT
) -> NDArray[np.int64]:
    """The fold each slide is held out in, int64 (S,).

    Raises:
        ValueError: a HER2 status has fewer slides than there are folds.
    """
    statuses = [slide.her2_status for slide in slides]
    by_patient = grouping is Grouping.PATIENT
    patients = [slide.patient for slide in slides] if by_patient else None
    kind = StratifiedGroupKFold if by_patient else StratifiedKFold
    splitter = kind(FOLDS, shuffle=True, random_state=seed)
    fold = np.empty(len(slides), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(statuses, statuses, patients)):
        fold[held_out] = number
    return fold


def load_or_make_folds(
    path: Path, slides: Sequence[StratifiedSlide], *, seed: int, grouping: Grouping
) -> NDArray[np.int64]:
    """The folds in `path`, made and written there first if they are not: int64 (S,).

    Raises:
        FoldsError: the file is of other slides, patients or statuses, of another seed or grouping,
            or folds cannot be made.
        OSError: the file cannot be written.
    """
    if path.is_file():
        folds = read_folds(path, slides)
        if (folds.seed, folds.grouping) != (seed, grouping):
            raise FoldsError(
                f"{path} was made with seed {folds.seed} and grouped by {folds.grouping};"
                " keep to both, or remove it and train every network anew."
            )
        return np.array([folds.held_out_in[slide.name] for slide in slides], np.int64)
    try:
        found = assign_folds(slides, seed, grouping)
    except ValueError as error:
        raise FoldsError(f"Five folds cannot be made: {error}.") from error
    names = [slide.name for slide in slides]
    folds = Folds(
        seed=seed,
        grouping=grouping,
        held_out_in=dict(zip(names, found.tolist(), strict=True)),
        her2_status={slide.name: str(slide.her2_status) for slide in slides},
    )
    write_text(path, folds.model_dump_json(indent=1))
    return found


def read_folds(path: Path, slides: Sequence[StratifiedSlide]) -> Folds:
    """The folds in `path`.

    Raises:
        FoldsError: there are none, or they are of other slides, patients or statuses.
    """
    if not path.is_file():
        raise FoldsError(f"{path} is missing: her2d train classifiers makes it again.")
    try:
        folds = Folds.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise FoldsError(f"{path} holds no folds: {error}.") from error
    if set(folds.held_out_in) != {slide.name for slide in slides}:
        raise FoldsError(
            f"{path} holds the folds of other slides; put the cohort table back as it was, or"
            " remove it and train every network anew."
        )
    _check_slides(path, folds, slides)
    return folds


def _check_slides(path: Path, folds: Folds, slides: Sequence[StratifiedSlide]) -> None:
    """That the cohort has not changed under its folds. Raises FoldsError."""
    first: dict[str, StratifiedSlide] = {}
    for slide in slides:
        was = (folds.her2_status or {}).get(slide.name, slide.her2_status)
        if was != slide.her2_status:
            raise FoldsError(
                f"{path} was made when {slide.name} was {was}, and it is {slide.her2_status} now;"
                " remove it and train every network anew."
            )
        other = first.setdefault(slide.patient, slide)
        parted = folds.held_out_in[other.name] != folds.held_out_in[slide.name]
        if folds.grouping is Grouping.PATIENT and parted:
            raise FoldsError(
                f"{path} has {other.name} and {slide.name} of patient {slide.patient} in two folds;"
                " remove it and train every network anew."
            )
