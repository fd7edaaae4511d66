"""Find the scans that a file's own XML lists, as Leica's SCN and OME-TIFF have it.

Both formats say which page belongs to which image, how large its pixels are, and how many planes of
focus it has. Where the XML does not fit the pages, nothing is taken from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from her2d.slides.errors import RefusedError
from her2d.slides.images import Image
from her2d.slides.leica import LeicaFile, LeicaImage, is_leica, read_leica
from her2d.slides.metadata import Description, describe_leica, describe_ome
from her2d.slides.ome import OmeImage, is_ome, read_ome
from her2d.slides.page_text import name_within

_SQUARE = 0.05  # sides of a pixel that differ by more are not taken for rounding


@dataclass(frozen=True, eq=False)
class ListedScan:
    """One image of the XML that is not a label, macro, thumbnail or overview.

    Attributes:
        planes: the finest page of each focal plane, in the order of the planes.
        levels: further pages of each plane, as far as the XML lists them.
        statement: what the XML states about it.
    """

    planes: tuple[Image, ...]
    levels: tuple[tuple[Image, ...], ...]
    statement: Description

    @property
    def area(self) -> int:
        """Pixels of one plane."""
        return self.planes[0].area

    def levels_of(self, plane: Image) -> tuple[Image, ...]:
        """Return the listed levels of one of `planes`; none for another image."""
        return next(
            (levels for one, levels in zip(self.planes, self.levels, strict=True) if one is plane),
            (),
        )


@dataclass(frozen=True, eq=False)
class Listing:
    """What the XML of a file lists.

    Attributes:
        scans: the largest first.
        pictures: names of pictures of the glass, by `id` of their image.
        areas_are_stated: whether each of `scans` is an area of the glass, as in SCN files. In
            OME-TIFF an image may also be a smaller copy of another, or an unnamed macro.
    """

    scans: tuple[ListedScan, ...]
    pictures: dict[int, str] = field(default_factory=dict)
    areas_are_stated: bool = False


def find_listed_scans(images: Sequence[Image]) -> Listing | None:
    """Return what the XML of the first page lists; None where there is no XML that fits.

    Raises:
        RefusedError: the scan that is listed is not a bright-field RGB image of square pixels.
    """
    chain = [image for image in images if image.directory.parent is None]
    text = chain[0].description
    if is_leica(text) and (leica := read_leica(text)) is not None:
        return _leica_scans(leica, chain)
    if is_ome(text):
        return _ome_scans(read_ome(text), chain)
    return None


def _leica_scans(leica: LeicaFile, chain: Sequence[Image]) -> Listing | None:
    pictures: dict[int, str] = {}
    scans, dark = [], False
    for image in leica.images:
        planes = _leica_planes(image, chain)
        if image.is_macro:
            pictures |= {id(page): "macro" for pages in planes for page in pages}
        elif not image.bright_field:
            dark = True
        elif planes:
            _check_square(image.um_x, image.um_y)
            scans.append(
                ListedScan(
                    planes=tuple(pages[0] for pages in planes),
                    levels=tuple(tuple(pages[1:]) for pages in planes),
                    statement=describe_leica(image, leica.barcode),
                )
            )
    if dark and not scans:
        raise RefusedError("is a fluorescence scan, not a bright-field RGB scan")
    if not scans:
        return None
    return Listing(_largest_first(scans), pictures, areas_are_stated=True)


def _leica_planes(image: LeicaImage, chain: Sequence[Image]) -> list[list[Image]]:
    """Return the pages of each focal plane, the finest first."""
    found: dict[int, list[Image]] = {}
    for page in image.pages:
        if page.page < len(chain) and chain[page.page].size == (page.width, page.height):
            found.setdefault(page.plane, []).append(chain[page.page])
    return [
        sorted(found[plane], key=lambda page: page.area, reverse=True) for plane in sorted(found)
    ]


def _ome_scans(listed: Sequence[OmeImage], chain: Sequence[Image]) -> Listing | None:
    found = list(_ome_pages(listed, chain))
    names = {id(image): name_within(image.name) for image, _ in found}
    if all(names.values()):
        names = {}
    pictures = {
        id(page): name
        for image, pages in found
        if (name := names.get(id(image))) is not None
        for page in pages
    }
    scans = [(image, pages) for image, pages in found if names.get(id(image)) is None]
    if not scans:
        return None
    scans.sort(key=lambda scan: scan[1][0].area, reverse=True)
    largest, pages = scans[0]
    if largest.channels > pages[0].page.samplesperpixel:
        raise RefusedError(
            f"stores its {largest.channels} channels as separate images, so it is not a "
            "bright-field RGB scan"
        )
    if largest.times > 1:
        raise RefusedError(f"is a series of {largest.times} points in time, not a slide")
    _check_square(largest.um_x, largest.um_y)
    return Listing(
        tuple(
            ListedScan(tuple(pages), tuple(() for _ in pages), describe_ome(image))
            for image, pages in scans
        ),
        pictures,
    )


def _ome_pages(
    listed: Sequence[OmeImage], chain: Sequence[Image]
) -> Iterator[tuple[OmeImage, list[Image]]]:
    """Yield each image of the XML that this file holds, with the page of each focal plane."""
    taken: set[int] = set()
    for image in listed:
        first = image.first_page
        if first is None or first >= len(chain) or chain[first].size != image.size:
            first = next(
                (n for n, page in enumerate(chain) if page.size == image.size and n not in taken),
                None,
            )
        if first is None:
            continue
        planes = image.planes if image.channels <= chain[first].page.samplesperpixel else 1
        numbers = [
            number
            for number in range(first, min(first + planes, len(chain)))
            if chain[number].size == image.size
        ]
        taken |= set(numbers)
        yield image, [chain[number] for number in numbers]


def _largest_first(scans: Sequence[ListedScan]) -> tuple[ListedScan, ...]:
    return tuple(sorted(scans, key=lambda scan: scan.area, reverse=True))


def _check_square(um_x: float | None, um_y: float | None) -> None:
    if um_x and um_y and abs(um_x / um_y - 1) > _SQUARE:
        raise RefusedError(
            f"has pixels of {um_x:.4g} x {um_y:.4g} um; only a scan of square pixels can be read"
        )
