"""A study is the folder in which a cohort becomes models; `Study` knows its layout.

study/cohort.json               the checked cohort
study/recipe.json               how models are trained
study/commands.txt              the commands that trained them
study/tiles/SLIDE.zarr          prepared tiles
study/alignment.csv             how each IHC slide lies on its H&E slide
study/kept_apart.json           patients that are kept apart from the folds
study/folds.json                the fold in which each slide is held out
study/segmenters/NAME/          model.safetensors, result.json, provenance.json, checkpoints
study/segmenters/NAME/gate/FOLD/  the same without another fold, to gate its tiles
study/gate.json                 tumour in the training tiles as these segmenters predict it
study/classifiers/NAME/FOLD/    the same for each fold
study/integrators/NAME.skops    fitted integrators, with integrators/results.json
study/mil/FOLD/                 the baseline that learns from slide labels, likewise
study/mil/features/SLIDE.safetensors  features of the slide's tumour tiles
study/mil/decision.json         from which probability the baseline calls a slide positive
study/mil/attention.onnx        its five networks as one graph
study/model_selection.json      the models that the bundle consists of
study/candidate/                the selected models as a bundle without figures
study/candidate-mil/            the baseline that learns from slide labels as a bundle, likewise
study/evaluation/               report.html, report.json, report.pdf

The folders that are being written hold an empty .lock as well.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from her2d.errors import Her2dError
from her2d.research.training.cohort import CohortSlide, Split
from her2d.system.files import PUBLIC, make_folder, write_whole

_COHORT = TypeAdapter(list[CohortSlide])
_COHORT_FILE = "cohort.json"
_LOCK_FILE = ".lock"
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class StudyError(Her2dError):
    """A step cannot be done; `str(error)` says what is missing and which command makes it."""


class FolderHeldError(StudyError):
    """Another command is writing a folder of the study."""


class KeptApart(BaseModel):
    """Patients of the training split that are kept apart from the folds, see `keep_apart`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    share: float
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Paths of a study's files and folders.

    Attributes:
        root: The study's folder.
    """

    root: Path

    @property
    def tiles(self) -> Path:
        return self.root / "tiles"

    @property
    def alignment(self) -> Path:
        return self.root / "alignment.csv"

    @property
    def folds(self) -> Path:
        return self.root / "folds.json"

    @property
    def kept_apart(self) -> Path:
        return self.root / "kept_apart.json"

    @property
    def integrators(self) -> Path:
        return self.root / "integrators"

    @property
    def selection(self) -> Path:
        return self.root / "model_selection.json"

    @property
    def candidate(self) -> Path:
        return self.root / "candidate"

    @property
    def mil_candidate(self) -> Path:
        return self.root / "candidate-mil"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    def segmenter(self, name: str) -> Path:
        return self.root / "segmenters" / name

    def gate_segmenter(self, name: str, fold: int) -> Path:
        return self.segmenter(name) / "gate" / str(fold)

    @property
    def gate(self) -> Path:
        return self.root / "gate.json"

    @property
    def classifiers(self) -> Path:
        return self.root / "classifiers"

    def classifier(self, name: str, fold: int) -> Path:
        return self.classifiers / name / str(fold)

    @property
    def mil(self) -> Path:
        return self.root / "mil"

    @property
    def commands(self) -> Path:
        return self.root / "commands.txt"

    def write_cohort(self, slides: list[CohortSlide]) -> None:
        """Save the checked cohort, creating the study's folder if it is missing.

        Raises:
            OSError: The folder cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        write_text(self.root / _COHORT_FILE, _COHORT.dump_json(slides, indent=1).decode())

    def remove_cohort(self) -> None:
        """Remove the saved cohort, so that no step takes tiles that are being prepared as whole.

        Raises:
            OSError: The file cannot be removed.
        """
        (self.root / _COHORT_FILE).unlink(missing_ok=True)

    def cohort(self) -> list[CohortSlide]:
        """Read the checked cohort; training slides that are kept apart are in `integrator`.

        Raises:
            StudyError: The study is not prepared, or the kept patients cannot be read.
        """
        kept = self.read_kept_apart()
        patients = frozenset(kept.patients if kept is not None else ())
        return [
            slide.model_copy(update={"split": Split.INTEGRATOR})
            if slide.split is Split.TRAIN and slide.patient in patients
            else slide
            for slide in self._cohort_table()
        ]

    def read_kept_apart(self) -> KeptApart | None:
        """Read which patients are kept apart; None if that was not chosen.

        Raises:
            StudyError: The file is not valid.
        """
        if not self.kept_apart.is_file():
            return None
        try:
            return KeptApart.model_validate_json(self.kept_apart.read_bytes())
        except (OSError, ValidationError) as error:
            raise StudyError(
                f"{self.kept_apart} is not valid. Restore it, or remove it and"
                f" {self.folds.name} and train every network again."
            ) from error

    def _cohort_table(self) -> list[CohortSlide]:
        try:
            return _COHORT.validate_json((self.root / _COHORT_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise StudyError(
                f"{self.root} does not hold a prepared cohort. Run `her2d prepare` until it"
                " finishes."
            ) from error


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder of a study while the block runs.

    The kernel releases the lock when the process ends, so that a killed one leaves none.

    Args:
        folder: The folder; created if it is missing.

    Raises:
        FolderHeldError: Another process holds it.
        StudyError: The file system has no locks.
        OSError: The folder cannot be written.
    """
    make_folder(folder)
    path = folder / _LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PUBLIC)
    try:
        try:
            # Unlike flock, it is not inherited by processes that load tiles, which may live longer.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise FolderHeldError(
                f"Another her2d command is writing {folder}. Wait until it has ended."
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            raise StudyError(
                f"{folder} is on a file system without file locks. Mount it with them, or keep the"
                " study on a local disk."
            ) from error
        yield
    finally:
        os.close(descriptor)


def record_command(study: Study, command: str) -> None:
    """Record a command that trained models of the study; one recorded before moves to the end.

    Raises:
        OSError: The file cannot be written.
    """
    others = [recorded for recorded in recorded_commands(study) if recorded != command]
    write_text(study.commands, "\n".join([*others, command]) + "\n")


def recorded_commands(study: Study) -> list[str]:
    """Read the recorded commands, each once; empty if none was recorded.

    Raises:
        OSError: The file cannot be read.
    """
    return study.commands.read_text().splitlines() if study.commands.is_file() else []


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, so that an interrupted write does not leave half of it.

    Several processes, one per GPU, may write the same file at once.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(path, text.encode(), mode=PUBLIC)
