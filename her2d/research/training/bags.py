"""Bags for the baseline that learns from slide labels: a slide's tumour tiles as features.

Features are made once and kept in the study, a file for each slide. They are half-precision numbers
and few: a slide at 4x has hundreds of tiles.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from her2d.research.training.cohort import CohortSlide, Status
from her2d.research.training.encoders import Encoder
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import TileStore
from her2d.system.files import make_folder, replacing

_BATCH = 8
_FEATURES, _SOURCE = "features", "source"


@dataclass(frozen=True, slots=True)
class Bags:
    """Slides with a HER2 status and tumour tiles.

    Attributes:
        slides: The slides.
        tiles: Indices of each slide's tumour tiles in the store, int64 (T,), T >= 1.
        store: The tiles.
        files: The file with each slide's features, float16 (T, sets, channels).
    """

    slides: tuple[CohortSlide, ...]
    tiles: tuple[NDArray[np.int64], ...]
    store: TileStore
    files: tuple[Path, ...]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether each slide is HER2-positive, bool (S,)."""
        return np.array([s.her2_status is Status.POSITIVE for s in self.slides], bool)

    def features(self, number: int) -> NDArray[np.float32]:
        """Read a slide's features, float32 (T, sets, channels)."""
        return read_features(self.files[number])


def read_features(path: Path) -> NDArray[np.float32]:
    """Read a slide's features, float32 (T, sets, channels).

    Raises:
        OSError: The file cannot be read.
    """
    with safe_open(path, "numpy") as file:
        return np.asarray(file.get_tensor(_FEATURES), np.float32)


def make_bags(
    study: Study,
    slides: Sequence[CohortSlide],
    store: TileStore,
    encoder: Encoder,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Bags:
    """Make the features of the slides' tumour tiles, where the study does not hold them.

    Slides without a HER2 status or without tumour tiles are left out.

    Args:
        study: A prepared study.
        slides: Slides of the store, in its order.
        store: Their tiles, gated as the study's tiles are.
        encoder: What makes the features.
        progress: Called with a description of each step.

    Raises:
        EncoderError: The encoder cannot encode a tile.
        OSError: The features cannot be written.
    """
    bags = []
    tumor = np.flatnonzero(store.table.is_tumor)
    of_slide = store.table.slide[tumor]
    for number, slide in enumerate(slides):
        tiles = tumor[of_slide == number]
        if len(tiles) and slide.her2_status is not Status.INDETERMINATE:
            progress(f"features of {slide.name}")
            bags.append((slide, tiles, features_file(study, slide.name, store, tiles, encoder)))
    kept, indices, files = zip(*bags, strict=True) if bags else ((), (), ())
    return Bags(kept, indices, store, files)


def features_file(
    study: Study, name: str, store: TileStore, tiles: NDArray[np.int64], encoder: Encoder
) -> Path:
    """Return the file with the features of a slide's tiles, which is written if it is not there.

    Args:
        study: The study.
        name: Name of the slide.
        store: The tiles.
        tiles: Indices of the slide's T >= 1 tiles in the store, int64 (T,).
        encoder: What makes the features.

    Raises:
        EncoderError: The encoder cannot encode a tile.
        OSError: The file cannot be written.
    """
    path = study.mil / "features" / f"{name}.safetensors"
    source = json.dumps({"encoder": encoder.digest, "tiles": store.slide_digest(name, tiles)})
    if _source_of(path) != source:
        batches = (tiles[at : at + _BATCH] for at in range(0, len(tiles), _BATCH))
        parts = [
            encoder.features(np.stack([store.pixels(int(i)) for i in batch])).astype(np.float16)
            for batch in batches
        ]
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise StudyError(f"The features of {name} exceed the range of half precision.")
        make_folder(path.parent)
        with replacing(path) as part:
            save_file({_FEATURES: features}, part, metadata={_SOURCE: source})
    return path


def _source_of(path: Path) -> str | None:
    """Return what the features in a file were made of; None if there are none."""
    try:
        with safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get(_SOURCE)
    except (OSError, SafetensorError):
        return None
