"""Find the scan among the pages of a file, the levels of its pyramid, and its focal planes.

A whole-slide file holds pyramid levels, in any order, beside a thumbnail, a label and a macro
photograph of the glass, some of them unnamed. It may hold more than one scan.

The scan is the page that the file says is the scan: the one of the size that a vendor's header
states, or that the file's XML lists. Only where nothing is stated it is the largest page that is
not marked as something else.

A level has the aspect ratio, the block layout and the sample format of the scan. It is believed to
be a level where the file says so, in a SubIFD of the scan (tag 330), in a vendor's header, or by
NewSubfileType (tag 254). Any other page must show what the scan shows, in a few blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from her2d.slides.agreement import BlockComparison
from her2d.slides.errors import RefusedError, SeveralAreasError
from her2d.slides.further_images import (
    Scale,
    is_another_area,
    is_another_listed_area,
    stated_scale,
)
from her2d.slides.images import Image
from her2d.slides.level_shape import Level, is_copy, is_exact, level_by_shape, readings, samples
from her2d.slides.listed_scans import Listing, find_listed_scans
from her2d.slides.metadata import Description, read_description
from her2d.slides.page_text import read_statement
from her2d.slides.picture_names import REDUCED, REDUCED_PAGE, TRANSPARENCY_MASK, picture_name

_MOST_COMPARED = 64  # pages whose pixels are looked at


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
        unread: images that are neither part of the scan nor known pictures, and are left out.
    """

    levels: tuple[Level, ...]
    plane: FocalPlane | None
    listed: Description | None
    pictures: dict[int, str]
    unread: tuple[Image, ...]


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
            base = self._base()
            planes = self._planes(base, ())
        else:
            if listing.areas_are_stated and len(listing.scans) > 1:
                raise SeveralAreasError(len(listing.scans))
            self._pictures = listing.pictures
            base, planes = listing.scans[0].planes[0], list(listing.scans[0].planes)
            if len(planes) == 1:
                others = [page for scan in listing.scans[1:] for page in scan.planes]
                planes = self._planes(base, others)
        plane = None
        if len(planes) > 1:
            comparison = BlockComparison(self._fd, base)
            sharpness = [comparison.sharpness(image) for image in planes]
            number = max(range(len(planes)), key=sharpness.__getitem__)
            base, plane = planes[number], FocalPlane(number + 1, len(planes))
        self._comparison = BlockComparison(self._fd, base)
        levels = [Level(base, 1.0, 1.0, *base.size), *self._levels(base, planes, listing)]
        levels.sort(key=lambda level: level.downsample)
        unread = self._unread(base, planes, levels, listing)
        listed = None if listing is None else listing.scans[0].statement
        return Pyramid(tuple(levels), plane, listed, self._pictures, unread)

    def _base(self) -> Image:
        """Return the page that is the scan: what the file says, else the largest page."""
        candidates = [image for image in self._images if not self._is_associated(image)]
        if not candidates:
            raise RefusedError("has no slide image: only labels, macros or thumbnails")
        full = [image for image in candidates if not image.page.subfiletype & REDUCED]
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
        level = level_by_shape(largest, other)
        self._comparison = BlockComparison(self._fd, largest)
        is_level = level is not None and self._shows_the_same(level)
        return largest if is_level else other

    def _planes(self, base: Image, other_scans: Sequence[Image]) -> list[Image]:
        """Return the focal planes of the scan, itself among them, in the order of the file.

        Planes are images of one size and layout that show the same. An exact copy is not a plane.
        """
        self._comparison = BlockComparison(self._fd, base)
        elsewhere = {id(image) for image in other_scans}
        found = [base]
        for image in self._images:
            if (
                image is not base
                and id(image) not in elsewhere
                and self._is_like(base, image)
                and not is_copy(base, image)
                and self._shows_the_same(Level(image, 1.0, 1.0, *image.size))
            ):
                found.append(image)
        return sorted(found, key=lambda image: self._places[id(image)])

    def _is_like(self, base: Image, image: Image) -> bool:
        """Return whether an image could be a scan or a focal plane of the same size as `base`."""
        return (
            image.size == base.size
            and not self._is_associated(image)
            and not image.page.subfiletype & REDUCED
            and image.directory.tiled == base.directory.tiled
            and samples(image.page) == samples(base.page)
        )

    def _levels(self, base: Image, planes: Sequence[Image], listing: Listing | None) -> list[Level]:
        """Return the levels of `base`, one of `planes`, apart from itself."""
        found = []
        listed = () if listing is None else listing.scans[0].levels_of(base)
        marks_are_clear = self._marks_are_clear(base, planes)
        for image in self._images:
            if image is base or any(image is plane for plane in planes):
                continue
            level = level_by_shape(base, image)
            if level is None or self._is_named(image):
                continue
            if any(image is one for one in listed):
                found.append(level)
            elif self._belongs_elsewhere(base, planes, image):
                continue
            elif self._is_level_of(base, image, marks_are_clear) and is_exact(base, level):
                found.append(level)
            else:
                # A level that is padded to whole blocks has another scale than its size says.
                found += next(
                    ([one] for one in readings(base, level) if self._shows_the_same(one)), []
                )
        return found

    def _is_named(self, image: Image) -> bool:
        """Return whether an image is known not to be a level, even if it has the shape of one."""
        statement = self._statements[id(image)]
        kind = image.page.subfiletype
        if kind & TRANSPARENCY_MASK or kind & REDUCED_PAGE == REDUCED_PAGE:
            return True
        if id(image) in self._pictures:
            return True
        # A thumbnail in tiles may be a level: the arrow alone does not tell.
        return statement.name is not None and statement.scan is None

    def _is_associated(self, image: Image) -> bool:
        return self._is_named(image) or self._statements[id(image)].name is not None

    def _belongs_elsewhere(self, base: Image, planes: Sequence[Image], image: Image) -> bool:
        """Return whether a page of a level's shape is, or may be, a level of another plane."""
        if image.directory.parent is not None:
            is_sibling = image.directory.parent == base.directory.parent and len(planes) == 1
            return not is_sibling and not self._is_below(base, image)
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

    def _is_below(self, base: Image, image: Image) -> bool:
        """Return whether an image is a SubIFD of the scan, or of one of its SubIFDs."""
        parent = image.directory.parent
        while parent is not None and self._images[parent] is not base:
            parent = self._images[parent].directory.parent
        return parent is not None

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
            and samples(image.page) == samples(base.page)
        ]
        marked = [image.size for image in chain if image.page.subfiletype & REDUCED]
        return len(marked) == len(chain) and (len(planes) > 1 or len(set(marked)) == len(marked))

    def _is_level_of(self, base: Image, image: Image, marks_are_clear: bool) -> bool:
        """Return whether the file says that a page is a level of the scan."""
        statement = self._statements[id(image)]
        if self._is_below(base, image):
            return True
        if statement.reduced_to is not None:
            return statement.reduced_to == image.size and statement.scan == base.size
        if statement.number is not None:
            return statement.number > 0 and self._statements[id(base)].number == 0
        if statement.scan is not None:
            return False  # its header says that it is another scan, or a thumbnail
        return bool(image.page.subfiletype & REDUCED) and marks_are_clear

    def _shows_the_same(self, level: Level) -> bool:
        self._count_comparison()
        return self._comparison.shows_the_same(level.image, level.downsample_x, level.downsample_y)

    def _count_comparison(self) -> None:
        self._compared += 1
        if self._compared > _MOST_COMPARED:
            raise RefusedError(
                f"has more than {_MOST_COMPARED} pages that do not say what they are; export the "
                "scan alone"
            )

    def _unread(
        self,
        base: Image,
        planes: Sequence[Image],
        levels: Sequence[Level],
        listing: Listing | None,
    ) -> tuple[Image, ...]:
        """Return the images that are left out.

        Raises:
            SeveralAreasError: one of them is another scan.
        """
        known = {id(image) for image in planes} | {id(level.image) for level in levels}
        areas, unread = 0, []
        scan_um = None if listing is None else listing.scans[0].statement.mpp
        for scan in () if listing is None else listing.scans[1:]:
            page = scan.planes[0]
            if id(page) not in known:
                self._count_comparison()
                scale = Scale(scan_um, scan.statement.mpp)
                if is_another_listed_area(self._fd, base, page, scale):
                    areas += 1
                else:
                    unread.append(page)
            known |= {id(page) for pages in (scan.planes, *scan.levels) for page in pages}
        for image in self._images:
            if id(image) in known or self._is_explained(base, planes, image):
                continue
            if self._is_another_area(base, planes, image):
                areas += 1
            else:
                unread.append(image)
        if areas:
            raise SeveralAreasError(areas + 1)
        return tuple(unread)

    def _is_explained(self, base: Image, planes: Sequence[Image], image: Image) -> bool:
        """Return whether it is known what an image is, though it is no level of the scan."""
        if self._is_associated(image) or is_copy(base, image):
            return True
        if image.directory.parent is not None:
            parent = self._images[image.directory.parent]
            if not self._is_below(base, image) and parent.area > image.area:
                return True  # a level of another page, which is looked at itself
        if self._states_another_scan(image):
            return False
        if len(planes) > 1 and level_by_shape(base, image) is not None:
            return True  # a level of another plane
        name = picture_name(base, image)
        if name != "thumbnail":
            return name is not None
        across, down = (mine / its for mine, its in zip(base.size, image.size, strict=True))
        return self._shows_the_same(Level(image, across, down, *image.size))

    def _states_another_scan(self, image: Image) -> bool:
        return self._statements[id(image)].scan == image.size

    def _is_another_area(self, base: Image, planes: Sequence[Image], image: Image) -> bool:
        if image.page.subfiletype & REDUCED:
            return False
        level = level_by_shape(base, image)
        if self._states_another_scan(image):
            same_samples = samples(image.page) == samples(base.page)
            return same_samples and (level is None or len(planes) == 1)
        if level is not None and is_exact(base, level):
            return False  # another area hardly has exactly a level's size
        self._count_comparison()
        return is_another_area(self._fd, base, image, stated_scale(base, image))


def _largest(images: Sequence[Image]) -> Image:
    return max(images, key=lambda image: image.area)


def _states_scale(image: Image) -> bool:
    description = read_description(image.description)
    return description.magnification is not None or description.mpp is not None
