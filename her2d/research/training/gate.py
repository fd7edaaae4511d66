"""Which tiles are tumour tiles, as a segmenter says of slides that it has not seen.

In service a tile is classified if more than 10 % of it is tumour by the segmenter's prediction, and
the paper chooses the tiles that it trains on in the same way (section 4.3). Predictions on slides
that a segmenter learned from would be too good. Each fold's slides are therefore predicted by a
segmenter that held the fold out: the bundle's for the first fold, and one that is trained for this
purpose for each other fold. Slides outside the folds are predicted by the bundle's.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from her2d.method import FOLDS
from her2d.pipeline.quality import QualityLimits, measure_tile
from her2d.pipeline.tumor_mask import count_tumor
from her2d.research.networks.build import build_segmenter
from her2d.research.networks.export import SegmenterGraph
from her2d.research.training.fit import WEIGHTS_FILE, read_result
from her2d.research.training.padding import scan_extent
from her2d.research.training.recipe import GateSource, Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import TileStore

_BATCH = 8
_WAYS_OUT = (
    " Set the recipe's gate as it was, or remove the study's folder classifiers and {file} and"
    " train the classifiers again."
)


class Gate(BaseModel):
    """The predictions by which the training tiles are gated, as saved in gate.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segmenter: str
    """Name of the segmenter."""
    tumor_pixels: dict[str, tuple[int, ...]]
    """Number of predicted tumour pixels of each tile, by training slide."""


def read_gate(study: Study) -> Gate | None:
    """Read the predictions by which a study's tiles are gated; None if by the annotation.

    Raises:
        StudyError: The file is not valid.
    """
    if not study.gate.is_file():
        return None
    try:
        return Gate.model_validate_json(study.gate.read_bytes())
    except (OSError, ValidationError) as error:
        raise StudyError(
            f"{study.gate} is not valid. Remove it and run `her2d train classifiers` again."
        ) from error


def check_gate(study: Study, recipe: Recipe, segmenter: str | None = None) -> None:
    """Check that the classifiers' tiles are gated as the recipe says.

    Args:
        study: A study.
        recipe: The study's recipe.
        segmenter: Name of the segmenter that will gate tiles in service, if it is known.

    Raises:
        StudyError: They are not, or another segmenter gated them.
    """
    gate = read_gate(study)
    if gate is None and recipe.gate is GateSource.PREDICTED:
        raise StudyError(
            "The classifiers' tiles are gated by the annotation, and the recipe's gate is"
            f" predicted.{_WAYS_OUT.format(file=study.gate.name)}"
        )
    if gate is not None and recipe.gate is GateSource.ANNOTATED:
        raise StudyError(
            "The classifiers' tiles are gated by predictions, and the recipe's gate is"
            f" annotated.{_WAYS_OUT.format(file=study.gate.name)}"
        )
    if gate is not None and segmenter not in (None, gate.segmenter):
        raise StudyError(
            f"The classifiers' tiles were gated by {gate.segmenter}, and {segmenter} would gate"
            f" them in service. Run `her2d train integrator --select-segmenter {gate.segmenter}`,"
            f" or remove the study's folder classifiers and {study.gate.name} and train the"
            " classifiers again."
        )


def gated_by_saved(study: Study, store: TileStore) -> TileStore:
    """Gate tiles of training slides by the saved predictions, or by the annotation without any.

    Raises:
        StudyError: The saved predictions are not valid or belong to other tiles.
    """
    gate = read_gate(study)
    if gate is None:
        return store
    predicted = [gate.tumor_pixels.get(name, ()) for name in store.names]
    counts = np.bincount(store.table.slide, minlength=len(store.names))
    if [len(pixels) for pixels in predicted] != counts.tolist():
        raise StudyError(
            f"{study.gate} was made for other tiles than the study has now. Remove it and run"
            " `her2d train classifiers` again."
        )
    return store.gated(np.array([n for pixels in predicted for n in pixels], np.int64))


def gated_as_in_service(study: Study, store: TileStore) -> TileStore:
    """Gate tiles of slides outside the folds by the bundle's segmenter.

    Without saved predictions the study's tiles are gated by the annotation.

    Raises:
        StudyError, FitError: The segmenter cannot be used.
    """
    gate = read_gate(study)
    if gate is None:
        return store
    everything = np.arange(len(store))
    return store.gated(
        predicted_tumor_pixels(study.segmenter(gate.segmenter), gate.segmenter, store, everything)
    )


def predicted_tumor_pixels(
    directory: Path, name: str, store: TileStore, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the predicted tumour pixels of tiles as the pipeline does.

    Padding does not count, nor do artefacts by the limits that a new bundle has.

    Args:
        directory: Folder of a trained segmenter.
        name: A key of SEGMENTERS.
        store: The tiles.
        indices: Indices of T tiles in the store, int64 (T,).

    Returns:
        Numbers of pixels, int64 (T,).

    Raises:
        StudyError, FitError: The segmenter cannot be used.
    """
    normalization = read_result(directory).normalization
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = segmenter_in(directory, name)
    graph = SegmenterGraph(network, normalization.mean, normalization.std).to(device).eval()
    found, limits = np.zeros(len(indices), np.int64), QualityLimits()
    with torch.inference_mode():
        for start in range(0, len(indices), _BATCH):
            pixels = np.stack([store.pixels(int(i)) for i in indices[start : start + _BATCH]])
            mask = graph(torch.from_numpy(pixels).to(device))[1].cpu().numpy()
            found[start : start + len(pixels)] = [
                count_tumor(tumor, scan_extent(tile), measure_tile(tile, limits).artefacts).pixels
                for tumor, tile in zip(mask, pixels, strict=True)
            ]
    return found


def segmenter_in(directory: Path, name: str) -> nn.Module:
    """Load the trained segmenter in a folder to the CPU.

    Raises:
        StudyError: The weights cannot be used.
        FitError: It is not trained.
    """
    width = read_result(directory).width_multiplier
    try:
        network = build_segmenter(name, width_multiplier=width, weights=directory / WEIGHTS_FILE)
    except ValueError as error:
        raise StudyError(f"Cannot load the network in {directory}: {error}.") from error
    return network.eval()


def gate_directories(study: Study, segmenter: str) -> list[Path]:
    """Return the folder of the segmenter that held each fold out, by fold."""
    others = [study.gate_segmenter(segmenter, fold) for fold in range(1, FOLDS)]
    return [study.segmenter(segmenter), *others]
