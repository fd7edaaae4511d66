"""The heatmap as an attachment of the FHIR export, reduced until it is small enough to send."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from her2d.results.pictures import PicturesMissing, jpeg_bytes, read_heatmap
from her2d.results.records import SlideResult

_PNG = "image/png"
_JPEG = "image/jpeg"
_SMALLER = 0.7
_LEAST_PX = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """The heatmap, encoded.

    Attributes:
        width, height: pixels.
        is_reduced: whether it is smaller than the stored heatmap.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    is_reduced: bool

    def attachment(self, result: SlideResult) -> dict[str, Any]:
        """Return the picture as an Attachment. FHIR R4 defines its hash as SHA-1."""
        sha1 = hashlib.sha1(self.data, usedforsecurity=False).digest()
        return {
            "contentType": self.content_type,
            "data": base64.b64encode(self.data).decode(),
            "size": len(self.data),
            "hash": base64.b64encode(sha1).decode(),
            "title": "Heatmap" + (", reduced" if self.is_reduced else ""),
            "creation": result.finished_at,
        }


def heatmap_picture(result: SlideResult, most_bytes: int) -> Picture | None:
    """Return a run's heatmap in at most `most_bytes`.

    Returns:
        The stored file if it is small enough, else a smaller JPEG; None if none may be that small.

    Raises:
        PicturesMissing: the heatmap is missing or cannot be read.
    """
    image = read_heatmap(result.heatmap_path)
    height, width = image.shape[:2]
    stored = _stored(result)
    if len(stored) <= most_bytes:
        return Picture(stored, _PNG, width, height, is_reduced=False)
    while min(height, width) >= _LEAST_PX:
        smaller = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        data = jpeg_bytes(np.asarray(smaller, np.uint8))
        if len(data) <= most_bytes:
            return Picture(data, _JPEG, width, height, is_reduced=True)
        height, width = int(height * _SMALLER), int(width * _SMALLER)
    return None


def _stored(result: SlideResult) -> bytes:
    try:
        return Path(str(result.heatmap_path)).read_bytes()
    except OSError as error:
        raise PicturesMissing(f"{result.heatmap_path} cannot be read: {error.strerror}.") from error
