"""Compare what contestants found with what her2d finds in fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2d.bundle.manifest import Tolerance


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a contestant's results are from those of her2d in fp32; None if it has none.

    Attributes:
        mask: share of pixels with the same class.
        tumor_pixels: largest difference in a tile's tumour, as a share of the tile.
        max_dp: largest difference of a probability; None also if other tiles are tumour tiles.
        changed_tiles: share of tumour tiles whose class differs, likewise.
        change_in_p: difference of P in percentage points.
        other_tiles: number of tiles that only one of the two calls tumour tiles.
    """

    mask: float | None
    tumor_pixels: float | None
    max_dp: float | None
    changed_tiles: float | None
    change_in_p: float | None
    other_tiles: int

    def within(self, tolerance: Tolerance) -> bool:
        """Whether all of it is within the bundle's tolerance for plans."""
        return (
            self.other_tiles == 0
            and (self.mask is None or self.mask >= tolerance.mask_agreement)
            and (self.max_dp is None or self.max_dp <= tolerance.max_dp)
            and (self.changed_tiles is None or self.changed_tiles <= tolerance.changed_tiles)
            and (self.change_in_p is None or self.change_in_p <= tolerance.change_in_p)
        )


def agreement(
    found: Mapping[str, Any],
    reference: Mapping[str, Any],
    masks: tuple[Path, Path] | None = None,
) -> Agreement:
    """Compare.

    Args:
        found, reference: what the contestant and her2d found.
        masks: their masks, packed to bits; the first file may not exist.
    """
    pixels, tumor_pixels, other = None, None, 0
    if "tumor_pixels" in found:
        mine, its = (np.array(each["tumor_pixels"]) for each in (found, reference))
        least = 0.1 * 512 * 512
        other = int(((mine > least) != (its > least)).sum())
        tumor_pixels = float(np.abs(mine - its).max() / 512**2)
    if masks is not None and masks[0].exists():
        ours, theirs = (np.load(path) for path in masks)
        pixels = 1 - float(np.unpackbits(ours ^ theirs).mean())
    mine, its = (np.array(each["p_folds"]).reshape(-1, 5) for each in (found, reference))
    max_dp = float(np.abs(mine - its).max(initial=0.0)) if mine.shape == its.shape else None
    changed = change_in_p = None
    if max_dp is not None and "strong" in found:
        differs = np.array(found["strong"], bool) != np.array(reference["strong"], bool)
        changed = float(differs.mean()) if len(differs) else 0.0
    if found.get("percent") is not None and reference.get("percent") is not None:
        change_in_p = abs(found["percent"] - reference["percent"])
    return Agreement(pixels, tumor_pixels, max_dp, changed, change_in_p, other)
