"""What a folder's network comes from, written beside it, so that no other is taken for it."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from her2d.bundle.manifest import Normalization
from her2d.errors import Her2dError
from her2d.research.training.recipe import NetworkRecipe
from her2d.research.training.study import write_text

PROVENANCE_FILE = "recipe.json"


class ProvenanceError(Her2dError):
    """The folder holds a network that comes from something else; `str(error)` says what."""


class Provenance(BaseModel):
    """What decides what a network becomes. None is what her2d did not keep once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    recipe: NetworkRecipe
    normalization: Normalization | None = None
    data: str | None = None
    """Digest of the tiles and labels, and of which tiles teach and which are held out."""


_NAMED = {
    "seed": "another seed",
    "recipe": "another recipe",
    "normalization": "another normalisation (the recipe's mean and std)",
    "data": "other tiles, labels or folds",
}


def record_provenance(directory: Path, name: str, provenance: Provenance) -> None:
    """Write `provenance` into `directory`, or compare it with what is there.

    A folder that records only a part is taken to have this provenance, but the data that its
    network learned from stays unknown.

    Raises:
        ProvenanceError: the folder is of another provenance.
        OSError: the folder cannot be written.
    """
    path = directory / PROVENANCE_FILE
    if path.is_file():
        kept = read_provenance(path)
        for field, other in _NAMED.items():
            was = getattr(kept, field)
            if was is not None and was != getattr(provenance, field):
                raise ProvenanceError(
                    f"{directory} holds a {name} of {other}; remove it to train anew."
                )
        provenance = provenance.model_copy(update={"data": kept.data})
        if kept == provenance:
            return
    directory.mkdir(parents=True, exist_ok=True)
    write_text(path, provenance.model_dump_json())


def read_provenance(path: Path) -> Provenance:
    """What the file `path`, a folder's PROVENANCE_FILE, says of its network.

    Raises:
        ProvenanceError: it says nothing that can be understood.
        OSError: it cannot be read.
    """
    text = path.read_text()
    try:
        if text.startswith("{"):
            return Provenance.model_validate_json(text)
        # Once it was the seed, a blank and the recipe.
        seed, recipe = text.split(" ", 1)
        return Provenance(seed=int(seed), recipe=NetworkRecipe.model_validate_json(recipe))
    except ValueError as error:
        raise ProvenanceError(f"{path} does not say what is in its folder; remove it.") from error
