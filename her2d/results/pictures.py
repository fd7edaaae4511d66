"""Store the slide and its tumour mask at low resolution, for later overlays and outlines.

Each has at most two megapixels, and a tile has at most 256 pixels along its side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.results.records import PictureRecord
from her2d.system.files import write_whole

_JPEG_QUALITY = 85

Image = NDArray[np.uint8]


class PicturesMissing(Her2dError):  # noqa: N818  reads as what it says
    """A run has no pictures, or their files are missing; `str(error)` gives the reason."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A run's pictures, padded to whole tiles.

    Attributes:
        rgb: uint8 (rows * tile_px, columns * tile_px, 3).
        tumor: uint8, same height and width, share of tumour pixels in tumour tiles, 0..255.
        tile_px: side of a tile in pixels.
    """

    rgb: Image
    tumor: Image
    tile_px: int


def write_pictures(stem: Path, pictures: Pictures) -> PictureRecord:
    """Write `stem`.slide.jpg and `stem`.tumor.png; no partial file is left. Raises OSError."""
    slide_path, tumor_path = (Path(f"{stem}.{end}") for end in ("slide.jpg", "tumor.png"))
    write_whole(slide_path, jpeg_bytes(pictures.rgb))
    write_whole(tumor_path, _coded(".png", pictures.tumor, []))
    return PictureRecord(str(slide_path), str(tumor_path), pictures.tile_px)


def read_pictures(record: PictureRecord) -> Pictures:
    """Read a run's pictures. Raises PicturesMissing."""
    rgb, tumor = _decoded_rgb(record.slide_path), _decoded_grey(record.tumor_path)
    if rgb.shape[:2] != tumor.shape:
        raise PicturesMissing(f"{record.slide_path} and {record.tumor_path} have different sizes.")
    return Pictures(rgb, tumor, record.tile_px)


def read_heatmap(path: str | None) -> Image:
    """Read a run's heatmap, uint8 (H, W, 3) RGB. Raises PicturesMissing."""
    if path is None:
        raise PicturesMissing("The run has no heatmap.")
    return _decoded_rgb(path)


# OpenCV is imported where a picture is decoded or encoded, because most commands only list results.


def png_bytes(image: Image) -> bytes:
    """Encode an RGB or RGBA image, uint8 (H, W, 3 or 4), as PNG."""
    import cv2

    turned = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return _coded(".png", cv2.cvtColor(image, turned), [])


def jpeg_bytes(image: Image) -> bytes:
    """Encode an RGB image, uint8 (H, W, 3), as JPEG."""
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return _coded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _coded(kind: str, image: object, options: list[int]) -> bytes:
    import cv2

    coded, data = cv2.imencode(kind, np.asarray(image), options)
    if not coded:
        raise OSError(f"a picture could not be encoded as {kind[1:].upper()}")
    return bytes(data.tobytes())


def _decoded_rgb(path: str) -> Image:
    import cv2

    bgr = _decoded(path, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _decoded_grey(path: str) -> Image:
    import cv2

    return _decoded(path, cv2.IMREAD_GRAYSCALE)


def _decoded(path: str, mode: int) -> Image:
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise PicturesMissing(
            f"The run's picture {path} cannot be read: {error.strerror}."
        ) from error
    image = cv2.imdecode(data, mode) if data.size else None
    if image is None:
        raise PicturesMissing(f"The run's picture {path} cannot be read.")
    return np.asarray(image, np.uint8)
