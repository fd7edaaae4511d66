"""A study: the folder in which a cohort becomes models, and where each thing lies in it.

study/cohort.json               the checked cohort
study/recipe.json               how models are trained
study/commands.txt              which commands trained them
study/tiles/SLIDE.zarr          prepared tiles
study/folds.json                which slides each fold holds out
study/segmenters/NAME/          model.safetensors, result.json, checkpoints
study/classifiers/NAME/FOLD/    the same of each fold
study/integrators/NAME.skops    and integrators/results.json
study/model_selection.json      which of them the bundle is made of
study/candidate/                the selected models as a bundle, not yet measured
study/evaluation/               report.html, report.json
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from her2d.errors import Her2dError
from her2d.research.training.cohort import CohortSlide
from her2d.system.files import write_whole

_COHORT = TypeAdapter(list[CohortSlide])


class StudyError(Her2dError):
    """A step cannot be done; `str(error)` says what is missing and which command makes it."""


@dataclass(frozen=True, slots=True)
class Study:
    """The paths of one study."""

    root: Path

    @property
    def tiles(self) -> Path:
        return self.root / "tiles"

    @property
    def folds(self) -> Path:
        return self.root / "folds.json"

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
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    def segmenter(self, name: str) -> Path:
        return self.root / "segmenters" / name

    def classifier(self, name: str, fold: int) -> Path:
        return self.root / "classifiers" / name / str(fold)

    @property
    def commands(self) -> Path:
        return self.root / "commands.txt"

    def write_cohort(self, slides: list[CohortSlide]) -> None:
        """Keep the checked cohort. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_text(self.root / "cohort.json", _COHORT.dump_json(slides, indent=1).decode())

    def cohort(self) -> list[CohortSlide]:
        """The checked cohort. Raises StudyError."""
        try:
            return _COHORT.validate_json((self.root / "cohort.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise StudyError(
                f"{self.root} holds no prepared cohort: run her2d prepare first."
            ) from error


def record_command(study: Study, command: str) -> None:
    """Remember that `command` had a part in the study's models. Raises OSError."""
    others = [known for known in recorded_commands(study) if known != command]
    write_text(study.commands, "\n".join([*others, command]) + "\n")


def recorded_commands(study: Study) -> list[str]:
    """The commands that trained the study's models, each once; none where nobody kept them."""
    return study.commands.read_text().splitlines() if study.commands.is_file() else []


def write_text(path: Path, text: str) -> None:
    """Write a complete file or none, also where several processes (one for each GPU) write it.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(path, text.encode(), mode=None)
