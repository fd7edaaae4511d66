"""Real scans that tests read; `tests/data` says where they are from."""

from pathlib import Path

import numpy as np
import tifffile

CMU = Path(__file__).parents[1] / "data" / "CMU-1-Small-Region.svs"

# TCGA's slides may not be part of the repository. Where one lies beside it, it is read as well.
TCGA = Path(__file__).parents[3] / "shared" / "data" / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"

_APERIO = "Aperio Image Library v11.0.37\r\n{w}x{h} (256x256)"


def write_without_magnification(path: Path) -> None:
    """Write a scan as Aperio writes it from a frozen section of the TCGA.

    Its tiles are JPEG 2000, a thumbnail lies between its two levels, and its description has
    neither AppMag nor MPP. Its tissue is that of CMU-1, and its mirror image beside it.
    """
    tissue = tifffile.imread(CMU, key=0)
    scan = np.concatenate([tissue, tissue[:, ::-1]], axis=1)
    height, width = scan.shape[:2]
    half = scan[: height // 2 * 2].astype(np.uint16)
    half = half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]
    about = _APERIO.format(w=width, h=height)
    codec = {"level": 40, "codecformat": "j2k"}
    tiles = {"tile": (256, 256), "compression": 33005, "compressionargs": codec}
    with tifffile.TiffWriter(path) as tiff:
        for pixels, text, options in (
            (scan, f"{about} J2K/KDU Q=70", tiles),
            (scan[::5, ::5], f"{about} -> {width // 5}x{height // 5}", {"compression": "jpeg"}),
            (((half + 2) // 4).astype(np.uint8), f"{about} -> {width // 2}x{height // 2}", tiles),
        ):
            tiff.write(pixels, photometric="rgb", metadata=None, description=text, **options)
