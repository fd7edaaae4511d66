"""Find the scan among the pages of a file, the levels of its pyramid, and the one to make 4x from.

A whole-slide file holds pyramid levels, in any order, beside a thumbnail, a label and a macro
photograph of the glass, some of them unnamed. It may hold more than one scan.

The scan is the page that the file says is the scan: the one of the size that a vendor's header
states, or that the file's XML lists. Only where nothing is stated it is the largest page that is
not marked as something else.

A level has the aspect ratio, the block layout and the sample format of the scan. It is believed to
be a level where the file says so, in a SubIFD of the scan (tag 330), in a vendor's header, or by
NewSubfileType (tag 254). Any other page must show what the scan shows, in a few blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tifffile import TiffPage

from her2d.method import MAGNIFICATION
from her2d.slides.agreement import BlockComparison
from her2d.slides.errors import RefusedError, SeveralAreasError
from her2d.slides.images import Image
from her2d.slides.listed_scans import ListedScan, Listing, find_listed_scans
from her2d.slides.metadata import Description, read_description
from her2d.slides.page_text import MASK, PageStatement, read_statement

AS_IS_TOLERANCE = 0.05  # a level is not resampled if its scale differs from 4x by at most this

_ASPECT_TOLERANCE = 0.01
_ROUNDING_PX = 2.0  # levels are rounded up or down, at most twice
_PADDED_HALVINGS = 12  # a scan of 2**20 pixels is halved to 256

_REDUCED = 0b1  # NewSubfileType, tag 254
_TRANSPARENCY_MASK = 0b100
_REDUCED_PAGE = 0b1001  # how Aperio marks macros: a reduced image that is also a separate page

_MOST_COMPARED = 64  # pages whose pixels are compared with the scan's
# An unnamed page that has at least this share of the scan's pixels is another scan, not a macro.
_ANOTHER_SCAN = 1 / 10
_ANOTHER_SCAN_IN_STRIPS = 1 / 3  # labels and macros are in strips too
_ANOTHER_OME_SCAN = 1 / 64  # where OME-XML says that both have pixels of one size
_SAME_PIXEL_SIZE = 1.5
_OVERVIEW = 3.0  # an image whose pixels are larger by more is an overview or a macro


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid.

    Attributes:
        image: its place in the file and its tags.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
        width, height: pixels of the level that show the scan. The image may be padded beyond them.
    """

    image: Image
    downsample_x: float
    downsample_y: float
    width: int
    height: int

    @property
    def downsample(self) -> float:
        """Geometric mean of both axes."""
        return math.sqrt(self.downsample_x * self.downsample_y)


class Reduced(Protocol):
    """A level of any format."""

    @property
    def downsample(self) -> float: ...


AnyLevel = TypeVar("AnyLevel", bound=Reduced)


@dataclass(frozen=True, slots=True)
class FocalPlane:
    """The plane of a z-stack that is read.

    Attributes:
        number: from 1, in the order of the file.
        count: planes of the stack.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


@dataclass(frozen=True, eq=False)
class Pyramid:
    """The scan of a file.

    Attributes:
        levels: finest first.
        plane: which plane of a z-stack it is; None where the file holds one plane.
        listed: what XML that describes several images states about this one.
        pictures: names of pictures of the glass that XML gives, by `id` of their image.
    """

    levels: tuple[Level, ...]
    plane: FocalPlane | None
    listed: Description | None
    pictures: dict[int, str]


def find_pyramid(images: Sequence[Image], fd: int) -> Pyramid:
    """Return the scan of a file.

    Args:
        images: all of the file, in its order. The file must still be open in tifffile.
        fd: descriptor of the file, to compare pages where their tags do not say what they are.

    Raises:
        RefusedError: all images are associated images, or the scan is not a bright-field scan.
        SeveralAreasError: the file holds several scans of different tissue.
        OSError: the storage failed.
    """
    return _Search(images, fd).pyramid()


def choose_level(levels: Sequence[AnyLevel], magnification: float) -> tuple[AnyLevel, bool]:
    """Return the level to make 4x from, and whether it is 4x itself (within 5 %).

    Args:
        levels: finest first.
        magnification: of the objective, for level 0.

    Raises:
        RefusedError: the scan is coarser than 4x.
    """
    scale = {id(level): magnification / level.downsample / MAGNIFICATION for level in levels}
    fit = min(levels, key=lambda level: abs(scale[id(level)] - 1))
    if abs(scale[id(fit)] - 1) <= AS_IS_TOLERANCE:
        return fit, True
    finer = [level for level in levels if scale[id(level)] > 1]
    if not finer:
        raise RefusedError(
            f"was scanned at {magnification:g}x, coarser than the {MAGNIFICATION:g}x that HER2 "
            "status is read at; scan it again at a higher magnification"
        )
    return finer[-1], False


def associated_images(images: Sequence[Image], pyramid: Pyramid) -> dict[str, Image]:
    """Return the pictures beside the pyramid by name: label, macro, thumbnail or overview.

    An image has the name that its description, or the file's XML, gives. Without one, an image that
    is marked as Aperio marks macros is the macro, and a stripped image beside a tiled pyramid is
    the thumbnail where it has level 0's aspect ratio, else the label where it is marked as a
    reduced image. Of several with one name the first counts; other images (masks, further focal
    planes) are left out.

    Args:
        images: all of the file.
        pyramid: its scan.
    """
    base = pyramid.levels[0].image
    in_pyramid = {id(level.image) for level in pyramid.levels}
    found: dict[str, Image] = {}
    for image in images:
        if id(image) in in_pyramid:
            continue
        name = pyramid.pictures.get(id(image)) or _associated_name(base, image)
        if name is not None and name != MASK:
            found.setdefault(name, image)
    return found


class _Search:
    """One search for the scan of a file."""

    def __init__(self, images: Sequence[Image], fd: int) -> None:
        self._images = images
        self._fd = fd
        self._places = {id(image): place for place, image in enumerate(images)}
        self._statements = {id(image): read_statement(image.description) for image in images}
        self._pictures: dict[int, str] = {}
        self._compared = 0

    def pyramid(self) -> Pyramid:
        listing = find_listed_scans(self._images)
        if listing is None:
            base, listed = self._base(), None
            planes, listed_levels = None, {}
        else:
            self._pictures = listing.pictures
            scan = listing.scans[0]
            base, listed, planes = scan.planes[0], scan.statement, list(scan.planes)
            listed_levels = {
                id(plane): levels for plane, levels in zip(scan.planes, scan.levels, strict=True)
            }
        self._comparison = BlockComparison(self._fd, base)
        if listing is not None and listing.areas_are_stated and len(listing.scans) > 1:
            raise SeveralAreasError(len(listing.scans))
        if planes is None or len(planes) == 1:
            planes = self._planes(base, [] if listing is None else _other_pages(listing))
        plane = None
        if len(planes) > 1:
            sharpness = [self._comparison.sharpness(image) for image in planes]
            number = max(range(len(planes)), key=sharpness.__getitem__)
            base, plane = planes[number], FocalPlane(number + 1, len(planes))
            self._comparison = BlockComparison(self._fd, base)
        levels = [Level(base, 1.0, 1.0, *base.size)]
        levels += self._levels(base, planes, listed_levels.get(id(base), ()))
        levels.sort(key=lambda level: level.downsample)
        self._refuse_other_scans(base, planes, levels, listing)
        return Pyramid(tuple(levels), plane, listed, self._pictures)

    def _base(self) -> Image:
        """Return the page that is the scan: what the file says, else the largest page."""
        candidates = [image for image in self._images if not self._is_associated(image)]
        if not candidates:
            raise RefusedError("has no slide image: only labels, macros or thumbnails")
        full = [image for image in candidates if not image.page.subfiletype & _REDUCED]
        candidates = full or candidates
        stated = {s.scan for s in self._statements.values() if s.scan is not None}
        of_stated_size = [image for image in candidates if image.size in stated]
        if of_stated_size:
            return _largest(of_stated_size)
        first_levels = [c for c in candidates if self._statements[id(c)].number == 0]
        if first_levels:
            return _largest(first_levels)
        candidates = [image for image in candidates if image.directory.tiled] or candidates
        largest = _largest(candidates)
        described = [image for image in candidates if _states_scale(image)]
        if not described or any(image is largest for image in described):
            return largest
        # The page that states a magnification, unless it is a level of the largest page.
        other = _largest(described)
        level = _level_by_shape(largest, other)
        self._comparison = BlockComparison(self._fd, largest)
        is_level = level is not None and self._shows_the_same(level)
        return largest if is_level else other

    def _planes(self, base: Image, other_scans: Sequence[Image]) -> list[Image]:
        """Return the focal planes of the scan, itself among them, in the order of the file.

        Planes are images of one size and layout that show the same. An exact copy is not a plane.
        """
        elsewhere = {id(image) for image in other_scans}
        found = [base]
        for image in self._images:
            if (
                image is not base
                and id(image) not in elsewhere
                and self._is_like(base, image)
                and not _is_copy(base, image)
                and self._shows_the_same(Level(image, 1.0, 1.0, *image.size))
            ):
                found.append(image)
        return sorted(found, key=lambda image: self._places[id(image)])

    def _is_like(self, base: Image, image: Image) -> bool:
        """Return whether an image could be a scan or a focal plane of the same size as `base`."""
        return (
            image.size == base.size
            and not self._is_associated(image)
            and not image.page.subfiletype & _REDUCED
            and image.directory.tiled == base.directory.tiled
            and _samples(image.page) == _samples(base.page)
        )

    def _levels(self, base: Image, planes: Sequence[Image], listed: Sequence[Image]) -> list[Level]:
        found = []
        marks_are_clear = self._marks_are_clear(base, planes)
        for image in self._images:
            if image is base or any(image is plane for plane in planes):
                continue
            level = _level_by_shape(base, image)
            if level is None or self._is_named(image):
                continue
            if any(image is one for one in listed):
                found.append(level)
            elif self._belongs_elsewhere(base, planes, image):
                continue
            elif self._is_level_of(base, image, marks_are_clear) and _is_exact(base, level):
                found.append(level)
            else:
                # A level that is padded to whole blocks has another scale than its size says.
                found += next(
                    ([one] for one in _readings(base, level) if self._shows_the_same(one)), []
                )
        return found

    def _is_named(self, image: Image) -> bool:
        """Return whether an image is known to be no level, whatever its shape."""
        statement = self._statements[id(image)]
        kind = image.page.subfiletype
        if kind & _TRANSPARENCY_MASK or kind & _REDUCED_PAGE == _REDUCED_PAGE:
            return True
        if id(image) in self._pictures:
            return True
        # A thumbnail in tiles may be a level: the arrow alone does not tell.
        return statement.name is not None and statement.scan is None

    def _is_associated(self, image: Image) -> bool:
        return self._is_named(image) or self._statements[id(image)].name is not None

    def _belongs_elsewhere(self, base: Image, planes: Sequence[Image], image: Image) -> bool:
        """Return whether a page of a level's shape is, or may be, a level of another plane."""
        parent = image.directory.parent
        if parent is not None:
            return self._images[parent] is not base
        if len(planes) == 1:
            return False
        of_same_size = [
            one
            for one in self._images
            if one.directory.parent is None and one.size == image.size and not self._is_named(one)
        ]
        number = next(n for n, plane in enumerate(planes) if plane is base)
        if len(of_same_size) == len(planes):
            return of_same_size[number] is not image
        place = self._places[id(image)]
        following = number + 1 < len(planes) and self._places[id(planes[number + 1])] > place
        return not (self._places[id(base)] < place and following)

    def _marks_are_clear(self, base: Image, planes: Sequence[Image]) -> bool:
        """Return whether pages that are marked as reduced images can only be the scan's.

        They cannot if the file holds another page like the scan that they may be made from, or two
        of them have one size.
        """
        known = {id(image) for image in planes}
        chain = [
            image
            for image in self._images
            if image.directory.parent is None
            and id(image) not in known
            and not self._is_associated(image)
            and image.directory.tiled == base.directory.tiled
            and _samples(image.page) == _samples(base.page)
        ]
        marked = [image.size for image in chain if image.page.subfiletype & _REDUCED]
        return len(marked) == len(chain) and (len(planes) > 1 or len(set(marked)) == len(marked))

    def _is_level_of(self, base: Image, image: Image, marks_are_clear: bool) -> bool:
        """Return whether the file says that a page is a level of the scan."""
        statement = self._statements[id(image)]
        if image.directory.parent is not None:
            return self._images[image.directory.parent] is base
        if statement.reduced_to is not None:
            return statement.reduced_to == image.size and statement.scan == base.size
        if statement.number is not None:
            return statement.number > 0 and self._statements[id(base)].number == 0
        if statement.scan is not None:
            return False  # its header says that it is a scan of its own, or a thumbnail
        return bool(image.page.subfiletype & _REDUCED) and marks_are_clear

    def _shows_the_same(self, level: Level) -> bool:
        self._compared += 1
        if self._compared > _MOST_COMPARED:
            raise RefusedError(
                f"has more than {_MOST_COMPARED} pages that do not say what they are; export the "
                "scan alone"
            )
        return self._comparison.shows_the_same(level.image, level.downsample_x, level.downsample_y)

    def _refuse_other_scans(
        self,
        base: Image,
        planes: Sequence[Image],
        levels: Sequence[Level],
        listing: Listing | None,
    ) -> None:
        """Refuse a file that holds another scan, which would not be read."""
        known = {id(image) for image in planes} | {id(level.image) for level in levels}
        others = 0
        if listing is not None:
            mine = listing.scans[0]
            for scan in listing.scans[1:]:
                others += id(scan.planes[0]) not in known and _is_another_area(mine, scan)
                known |= {id(page) for pages in (scan.planes, *scan.levels) for page in pages}
        others += sum(
            id(image) not in known and self._is_another_scan(base, planes, image)
            for image in self._images
        )
        if others:
            raise SeveralAreasError(others + 1)

    def _is_another_scan(self, base: Image, planes: Sequence[Image], image: Image) -> bool:
        if self._is_associated(image) or image.page.subfiletype & _REDUCED:
            return False
        parent = image.directory.parent
        if parent is not None and self._images[parent].area > image.area:
            return False  # a level of another page, which is looked at itself
        if _samples(image.page) != _samples(base.page) or _is_copy(base, image):
            return False
        level = _level_by_shape(base, image)
        if self._statements[id(image)].scan == image.size:
            return level is None or len(planes) == 1
        # An area of its own has a size of its own, and may be a level of another plane.
        of_level = level is not None and (len(planes) > 1 or _is_exact(base, level))
        return not of_level and _is_large_beside(base, image)


def _is_large_beside(base: Image, image: Image) -> bool:
    """Return whether an unnamed image is too large, and stored too much alike, to be a macro."""
    first, other = base.directory, image.directory
    share = _ANOTHER_SCAN if first.tiled else _ANOTHER_SCAN_IN_STRIPS
    return (
        other.tiled == first.tiled
        and other.compression == first.compression
        and image.area >= share * base.area
    )


def _other_pages(listing: Listing) -> list[Image]:
    return [image for scan in listing.scans[1:] for image in scan.planes]


def _is_another_area(mine: ListedScan, other: ListedScan) -> bool:
    """Return whether another image of OME-XML is an area of the glass scanned like this one."""
    share = other.area / mine.area
    if mine.statement.mpp is None or other.statement.mpp is None:
        return share >= _ANOTHER_SCAN
    coarser = other.statement.mpp / mine.statement.mpp
    if coarser > _OVERVIEW:
        return False
    return share >= (_ANOTHER_SCAN if coarser < 1 / _SAME_PIXEL_SIZE else _ANOTHER_OME_SCAN)


def _associated_name(base: Image, image: Image) -> str | None:
    statement: PageStatement = read_statement(image.description)
    kind = image.page.subfiletype
    if kind & _TRANSPARENCY_MASK or read_description(image.description).vendor == "ome":
        return None
    if statement.name is not None:
        return statement.name
    if kind & _REDUCED_PAGE == _REDUCED_PAGE:
        return "macro"
    if not base.directory.tiled or image.directory.tiled or image.area >= base.area:
        return None
    if _has_aspect_of(base, image):
        return "thumbnail"
    return "label" if kind & _REDUCED else None


def _largest(images: Sequence[Image]) -> Image:
    return max(images, key=lambda image: image.area)


def _states_scale(image: Image) -> bool:
    description = read_description(image.description)
    return description.magnification is not None or description.mpp is not None


def _level_by_shape(base: Image, image: Image) -> Level | None:
    """Return the level that an image is if it shows all of the scan; None if it cannot be one."""
    first, other = base.directory, image.directory
    if other.tiled != first.tiled:
        return None  # an image in strips beside a pyramid in tiles is a thumbnail
    if _samples(base.page) != _samples(image.page):
        return None
    across = _downsample(first.width, other.width)
    down = _downsample(first.height, other.height)
    if math.sqrt(across * down) <= 1.0:
        return None  # another focal plane or channel of level 0
    if _has_aspect_of(base, image):
        return Level(image, across, down, *image.size)
    return _padded_level(base, image)


def _readings(base: Image, level: Level) -> list[Level]:
    """Return what a page could be a level with: whole blocks as padding, or no padding."""
    padded = None if _is_exact(base, level) else _padded_level(base, level.image)
    return [level] if padded is None else [padded, level]


def _padded_level(base: Image, image: Image) -> Level | None:
    """Return the level that an image is if it is padded to whole tiles, as Philips pads levels."""
    first, other = base.directory, image.directory
    if not other.tiled:
        return None
    for halvings in range(1, _PADDED_HALVINGS + 1):
        downsample = 1 << halvings
        width, height = -(-first.width // downsample), -(-first.height // downsample)
        if (_whole(width, other.block_width), _whole(height, other.block_height)) == image.size:
            return Level(image, float(downsample), float(downsample), width, height)
    return None


def _whole(side: int, block: int) -> int:
    return -(-side // block) * block


def _is_exact(base: Image, level: Level) -> bool:
    """Return whether rounding alone explains the level's size, with one scale on both axes."""
    if (level.width, level.height) != level.image.size:
        return False  # padded
    across, down = level.downsample_x, level.downsample_y
    if across == down and across.is_integer():
        return True
    if _padded_level(base, level.image) is not None:
        return False
    scales = [
        (side / (of_level + _ROUNDING_PX), side / max(1.0, of_level - _ROUNDING_PX))
        for side, of_level in zip(base.size, level.image.size, strict=True)
    ]
    return max(low for low, _ in scales) <= min(high for _, high in scales)


def _is_copy(base: Image, image: Image) -> bool:
    """Return whether both images are made of the same blocks of the file."""
    first, other = base.directory.block_offsets, image.directory.block_offsets
    return len(first) == len(other) and bool((first == other).all())


def _has_aspect_of(base: Image, image: Image) -> bool:
    first, other = base.directory, image.directory
    slack = max(_ASPECT_TOLERANCE, _ROUNDING_PX / other.width + _ROUNDING_PX / other.height)
    across = _downsample(first.width, other.width)
    return abs(across / _downsample(first.height, other.height) - 1) <= slack


def _downsample(base: int, level: int) -> float:
    """Return base pixels per level pixel, as a whole number where rounding explains the rest."""
    whole = max(1, round(base / level))
    return float(whole) if abs(base / whole - level) < 1 else base / level


def _samples(page: TiffPage) -> tuple[object, ...]:
    return (page.samplesperpixel, page.bitspersample, page.sampleformat, page.planarconfig)
