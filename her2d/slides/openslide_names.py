"""What OpenSlide's Python API calls properties and associated images, for the readers of a scan."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.metadata import SlideMetadata

_MAX_ASSOCIATED_PIXELS = 2**26  # a macro photograph has less than 2 ** 22

Pixels = NDArray[np.uint8]
Pair = tuple[int, int]


class _Level(Protocol):
    @property
    def downsample(self) -> float: ...

    @property
    def size(self) -> Pair: ...


def standard_properties(
    metadata: SlideMetadata, levels: Sequence[_Level], associated: Mapping[str, Pair]
) -> dict[str, str]:
    """Return the properties that every scan has.

    Args:
        metadata: the scan's.
        levels: finest first; `size` is width and height.
        associated: width and height of the associated images, by name.
    """
    vendor = metadata.vendor
    found = {
        "openslide.vendor": "generic-tiff" if vendor == "generic" else vendor,
        "openslide.objective-power": _number(metadata.magnification),
        "openslide.level-count": str(len(levels)),
    }
    if metadata.mpp is not None:
        found["openslide.mpp-x"] = found["openslide.mpp-y"] = _number(metadata.mpp)
    for number, level in enumerate(levels):
        prefix = f"openslide.level[{number}]"
        found[f"{prefix}.width"], found[f"{prefix}.height"] = map(str, level.size)
        found[f"{prefix}.downsample"] = _number(level.downsample)
    for name, (width, height) in associated.items():
        found[f"openslide.associated.{name}.width"] = str(width)
        found[f"openslide.associated.{name}.height"] = str(height)
    return found


def _number(value: float) -> str:
    return f"{value:.15g}"


class AssociatedImages(Mapping[str, Pixels]):
    """Images beside the scan by name, uint8 (height, width, 3) RGB, decoded at each access."""

    def __init__(
        self, file_name: str, sizes: Mapping[str, Pair], decode: Callable[[str], Pixels]
    ) -> None:
        """Name the images.

        Args:
            file_name: the scan's, for errors.
            sizes: width and height, by name.
            decode: decodes the image of a name.
        """
        self._file_name, self._sizes, self._decode = file_name, sizes, decode

    def __getitem__(self, name: str) -> Pixels:
        width, height = self._sizes[name]
        if width * height > _MAX_ASSOCIATED_PIXELS:
            raise SlideError(
                self._file_name,
                f"has a {name} of {width} x {height} pixels, over the limit of "
                f"{_MAX_ASSOCIATED_PIXELS >> 20} megapixels",
            )
        return self._decode(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    def __repr__(self) -> str:
        return f"<associated images: {', '.join(self._sizes) or 'none'}>"
