"""A record beside each network of what it was trained from.

Training resumes only if the record matches, so that one network is not mistaken for another.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from her2d.bundle.manifest import Normalization
from her2d.errors import Her2dError
from her2d.research.training.recipe import MilRecipe, NetworkRecipe
from her2d.research.training.study import write_text

PROVENANCE_FILE = "provenance.json"


class ProvenanceError(Her2dError):
    """A folder's provenance differs or cannot be read; `str(error)` names the difference."""


class Provenance(BaseModel):
    """Everything that determines the weights of a network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    recipe: NetworkRecipe | MilRecipe
    normalization: Normalization
    data: str
    """SHA-256 of the tiles, the labels and the assignment to training or validation, in hex."""


_DESCRIPTIONS = {
    "seed": "seed",
    "recipe": "recipe",
    "normalization": "normalisation (the recipe's mean and std)",
    "data": "tiles, labels or folds",
}


def record_provenance(directory: Path, name: str, provenance: Provenance) -> None:
    """Write the provenance into a network's folder, or check it against the one recorded there.

    Args:
        directory: Folder of the network; created if it is missing.
        name: Name of the network, for the error message.
        provenance: What the network is about to be trained from.

    Raises:
        ProvenanceError: The folder records another provenance, or its record cannot be read.
        OSError: The folder cannot be read or written.
    """
    path = directory / PROVENANCE_FILE
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        write_text(path, provenance.model_dump_json())
        return
    recorded = read_provenance(path)
    for field, description in _DESCRIPTIONS.items():
        if getattr(recorded, field) != getattr(provenance, field):
            raise ProvenanceError(
                f"{directory} holds {name} trained with another {description}. Remove the folder"
                " to train again."
            )


def read_provenance(path: Path) -> Provenance:
    """Read the record in a network's folder.

    Args:
        path: PROVENANCE_FILE in the folder.

    Raises:
        ProvenanceError: The record is not valid.
        OSError: The file cannot be read.
    """
    text = path.read_text()
    try:
        return Provenance.model_validate_json(text)
    except ValueError as error:
        raise ProvenanceError(
            f"{path} is not a valid provenance record. Remove its folder to train again."
        ) from error
