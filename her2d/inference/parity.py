"""Compare two engines on the same tiles, by the figures that decide a slide's status."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.inference.engine import Engine, Tiles
from her2d.inference.plans import Parity
from her2d.method import TILE_PX
from her2d.system.memory import give_back_free_memory

_TILE_PIXELS = TILE_PX * TILE_PX
_NON_TUMOR, _WEAK, _STRONG = range(3)


@dataclass(frozen=True, slots=True)
class Findings:
    """An engine's outputs for N tiles, all of which went through both networks.

    Attributes:
        tumor_pixels: int64 (N,), number of tumour pixels.
        mask: uint8 (N, 512, 512), 1 where a pixel is tumour.
        p_folds: float32 (N, 5), p(strong) by each of the five folds.
    """

    tumor_pixels: NDArray[np.int64]
    mask: NDArray[np.uint8]
    p_folds: NDArray[np.float32]


def findings(engine: Engine, tiles: Tiles) -> Findings:
    """Run `tiles`, N >= 1, through both networks in the engine's batches. Raises EngineError."""
    batches = engine.batches
    segmented = [engine.segment(part) for part in _parts(tiles, batches.segmenter)]
    return Findings(
        np.concatenate([found.tumor_pixels for found in segmented]).astype(np.int64),
        np.concatenate([found.mask for found in segmented]),
        np.concatenate(
            [engine.classify(part) for part in _parts(tiles, engine.batches.classifiers)]
        ),
    )


def _parts(tiles: Tiles, batch: int) -> list[Tiles]:
    return [tiles[at : at + batch] for at in range(0, len(tiles), batch)]


def compare(
    reference: Findings,
    found: Findings,
    integrator: Integrator,
    *,
    tumor_fraction: float,
    verified_on: str,
) -> Parity:
    """Compute how `found` differs from `reference` on the same tiles.

    Args:
        reference: outputs of ONNX Runtime in fp32.
        found: outputs of the engine in question.
        integrator: the bundle's.
        tumor_fraction: share of tumour pixels above which a tile is a tumour tile.
        verified_on: name of the GPU or of the processor.
    """
    before = tile_classes(reference, integrator, tumor_fraction)
    after = tile_classes(found, integrator, tumor_fraction)
    p_before = strong_percent(reference.tumor_pixels, before)
    p_after = strong_percent(found.tumor_pixels, after)
    moved = abs(p_after - p_before) if p_before is not None and p_after is not None else None
    if (p_before is None) != (p_after is None):
        # Only one of them finds any tumour, which is the largest possible difference.
        moved = 100.0
    return Parity(
        tiles=len(before),
        mask_agreement=float((found.mask == reference.mask).mean()),
        max_dp=float(np.abs(found.p_folds - reference.p_folds).max()),
        changed_tiles=float((before != after).mean()),
        change_in_p=moved,
        verified_on=verified_on,
    )


def reference_findings(bundle: Bundle, tiles: Tiles, *, threads: int = 0) -> Findings:
    """Run `tiles`, N >= 1, through ONNX Runtime in fp32, which is closed before this returns.

    Two engines of the paper's size would take the memory of both, so this comes first.

    Args:
        bundle: a verified bundle.
        tiles: what is compared later.
        threads: as in `EngineOptions`.

    Raises:
        EngineError: it cannot be opened, or failed.
    """
    from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine

    reference = OnnxRuntimeEngine(bundle, threads=threads)
    try:
        return findings(reference, tiles)
    finally:
        reference.close()
        give_back_free_memory()


def measure_parity(
    bundle: Bundle, reference: Findings, engine: Engine, tiles: Tiles, *, verified_on: str
) -> Parity:
    """Compare `engine` with what `reference_findings` returned for the same tiles.

    Raises:
        EngineError: the engine failed.
    """
    return compare(
        reference,
        findings(engine, tiles),
        Integrator(bundle),
        tumor_fraction=bundle.manifest.preprocessing.tumor_fraction,
        verified_on=verified_on,
    )


def tile_classes(
    found: Findings, integrator: Integrator, tumor_fraction: float
) -> NDArray[np.uint8]:
    """Classify tiles: uint8 (N,), 0 non-tumour, 1 weak, 2 strong (paper, sections 4.2 and 4.5)."""
    strong = integrator.integrate(found.p_folds).strong
    tumor = found.tumor_pixels > tumor_fraction * _TILE_PIXELS
    classes = np.where(tumor, np.where(strong, _STRONG, _WEAK), _NON_TUMOR)
    return classes.astype(np.uint8)


def strong_percent(tumor_pixels: NDArray[np.int64], classes: NDArray[np.uint8]) -> float | None:
    """Compute P in percent (equation 1) of tiles as if they were one slide; None without tumour."""
    total = int(tumor_pixels[classes != _NON_TUMOR].sum())
    return 100.0 * int(tumor_pixels[classes == _STRONG].sum()) / total if total else None
