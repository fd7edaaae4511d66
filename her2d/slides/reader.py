"""Open a scan: find its pyramid, read what the file states, and lay the grid over it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tifffile import TiffPage

from her2d.method import UM_PER_PX
from her2d.slides.blocks import Blocks
from her2d.slides.bright_field import check_is_coloured
from her2d.slides.errors import RefusedError, slide_errors
from her2d.slides.fit import fit_grid
from her2d.slides.formats.opening import library_named, open_other
from her2d.slides.further_images import unread_pictures
from her2d.slides.glass import Color, glass_color
from her2d.slides.half_size import HALF_SIZE, is_read_at_half_size
from her2d.slides.images import Image, image_of, tifffile_on
from her2d.slides.integrity import open_regular
from her2d.slides.metadata import (
    SlideMetadata,
    describe,
    read_description,
    read_fields,
)
from her2d.slides.overlaps import check_tiles_do_not_overlap
from her2d.slides.page_resolution import page_resolution
from her2d.slides.page_text import reduction_of
from her2d.slides.protocol import Slide
from her2d.slides.pyramid import (
    Level,
    Pyramid,
    associated_images,
    choose_level,
    find_pyramid,
)
from her2d.slides.scale import Scale, scale_of
from her2d.slides.slide import TiffSlide
from her2d.slides.structure import read_structure

_ICC_PROFILE = 34675


def open_slide(
    path: Path | str,
    *,
    assume_magnification: float | None = None,
    um_per_px: float = UM_PER_PX,
    fd: int | None = None,
) -> Slide:
    """Open a whole-slide image.

    TIFF and BigTIFF as Motic, Aperio, OME or other programs write it is read by her2d itself. With
    the extra `her2d[formats]`, OpenSlide reads Hamamatsu, Ventana, Zeiss CZI, MIRAX and Sakura
    slides, and wsidicom reads DICOM slides.

    Args:
        path: a file, or the folder of a DICOM slide.
        assume_magnification: the objective's magnification at level 0, used where the file states
            none, or states two that exclude each other.
        um_per_px: micrometres per pixel that the models need; the grid has it within 5 %.
        fd: descriptor of the file if the caller has opened it already, and closes it after the
            slide. Then `path` only names it, and what lies there now is not read.

    Raises:
        SlideError: the file lacks directories, has no magnification, is over 25 % coarser than
            `um_per_px`, has no pixels, has one grey channel, or has a format that is not supported
            or whose library is not installed. Nothing else is raised for the content of a file. A
            block that is cut off or damaged raises nothing here: its tiles are unreadable.
        SlideUnavailableError: the storage failed.
    """
    path = Path(path)
    if (other := open_other(path, assume_magnification, um_per_px, fd)) is not None:
        return other
    with slide_errors(path), library_named(path, fd):
        own = open_regular(path) if fd is None else os.dup(fd)
        try:
            return _open(path, own, assume_magnification, um_per_px)
        except BaseException:
            os.close(own)
            raise


def _open(path: Path, fd: int, assume_magnification: float | None, um_per_px: float) -> TiffSlide:
    directories = read_structure(fd)
    with tifffile_on(fd, directories) as tiff:
        images = [image_of(tiff, index, found) for index, found in enumerate(directories)]
        check_tiles_do_not_overlap(images)
        pyramid = find_pyramid(images, fd)
        levels = pyramid.levels
        descriptions = _descriptions(images, levels[0].image)
        metadata = _describe(descriptions, pyramid, assume_magnification)
        fields = _fields(descriptions)
        glass = glass_color(levels[0].image.page, fields)
        scale = scale_of(metadata, um_per_px)
        level, as_is, blocks = _level_to_read(levels, scale, glass)
        _require_pixels(levels, level)
        associated = associated_images(images, pyramid)
    grid, sampling = fit_grid(
        scale,
        width=level.width,
        height=level.height,
        downsample_x=level.downsample_x,
        downsample_y=level.downsample_y,
        as_is=as_is,
    )
    check_is_coloured(level.image.page)
    if is_read_at_half_size(blocks, sampling, fd):
        metadata = replace(metadata, decoding=HALF_SIZE)
    return TiffSlide(
        path,
        fd=fd,
        metadata=metadata,
        grid=grid,
        blocks=blocks,
        sampling=sampling,
        levels=levels,
        serving=level,
        glass=glass,
        associated=associated,
        icc_bytes=_icc_bytes(levels[0].image.page),
        comment=descriptions[0],
        fields=fields,
    )


def _level_to_read(
    levels: Sequence[Level], scale: Scale, glass: Color
) -> tuple[Level, bool, Blocks]:
    """Return the level to make the grid from, whether its pixels are the grid's, and its blocks.

    A level in a format that is not supported is replaced by the next finer one.
    """
    level, as_is = choose_level(levels, scale)
    try:
        return level, as_is, Blocks(level.image, glass)
    except RefusedError:
        finer = levels[: list(levels).index(level)]
        if not finer:
            raise
        return _level_to_read(finer, scale, glass)


def _require_pixels(levels: Sequence[Level], serving: Level) -> None:
    """Raise RefusedError if the level to read and those behind it store no block at all."""
    usable = levels[: list(levels).index(serving) + 1]
    if not any(level.image.directory.stored.any() for level in usable):
        raise RefusedError("has no pixels: not one block of its scan is stored")


def _fields(descriptions: Sequence[str]) -> dict[str, str]:
    """Return the `key = value` fields of all descriptions; the first description's count most."""
    fields: dict[str, str] = {}
    for text in reversed(descriptions):
        fields |= read_fields(text)
    return fields


def _descriptions(images: Sequence[Image], base: Image) -> list[str]:
    """ImageDescriptions (tag 270) that speak of the scan, level 0's first."""
    descriptions = [base.description]
    if images[0] is not base:  # the file's own description is its first image's
        descriptions.append(images[0].description)
    return descriptions


def _describe(
    descriptions: Sequence[str], pyramid: Pyramid, assume_magnification: float | None
) -> SlideMetadata:
    base = pyramid.levels[0].image
    if pyramid.listed is None:
        channels = max((read_description(text).channels or 0 for text in descriptions), default=0)
        if channels > base.page.samplesperpixel:
            raise RefusedError(
                f"stores its {channels} channels as separate images, so it is not a bright-field "
                "RGB scan"
            )
    metadata = describe(
        # XML that lists this image describes others too, whose values are not its own.
        descriptions if pyramid.listed is None else (),
        page_resolution(base.page),
        listed=pyramid.listed,
        reduction=reduction_of(base.description, base.size) if pyramid.listed is None else None,
        width=base.directory.width,
        height=base.directory.height,
        assume_magnification=assume_magnification,
    )
    return replace(
        metadata,
        focal_plane=str(pyramid.plane) if pyramid.plane else None,
        unread_pictures=unread_pictures(pyramid.unread),
    )


def _icc_bytes(page: TiffPage) -> int:
    tag = page.tags.get(_ICC_PROFILE)
    return int(tag.count) if tag is not None else 0
