"""DICOM whole-slide images as archives hold them: a folder with one instance for each level."""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

Picture = NDArray[np.uint8]


def write_dicom_slide(
    folder: Path,
    levels: list[Picture],
    *,
    mpp: float | None = 0.5,
    magnification: float | None = 20.0,
    barcode: str | None = "DICOM-1",
    tile: int = 256,
    lossless: bool = True,
    name: str = "slide",
    samples: int = 3,
    focal_planes: int = 1,
) -> Path:
    """Write a slide with its levels, finest first, and a label; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = generate_uid(), generate_uid(), generate_uid()
    scan = _Scan(uids, mpp, magnification, barcode, tile, lossless, levels[0].shape[1])
    for number, pixels in enumerate(levels):
        image = scan.instance(pixels, "VOLUME", number + 1)
        if samples == 1:
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        if focal_planes > 1:
            image.TotalPixelMatrixFocalPlanes = focal_planes
            image.NumberOfFrames *= focal_planes
            image.PixelData = image.PixelData * focal_planes
        image.save_as(folder / f"{name}-{number}.dcm", enforce_file_format=True)
    label = scan.instance(np.full((96, 128, 3), 200, np.uint8), "LABEL", len(levels) + 1)
    label.save_as(folder / f"{name}-label.dcm", enforce_file_format=True)
    return folder


class _Scan:
    def __init__(
        self,
        uids: tuple[str, str, str],
        mpp: float | None,
        magnification: float | None,
        barcode: str | None,
        tile: int,
        lossless: bool,
        width: int,
    ) -> None:
        self._study, self._series, self._frame_of_reference = uids
        self._mpp, self._magnification, self._barcode = mpp, magnification, barcode
        self._tile, self._lossless, self._width = tile, lossless, width

    def instance(self, pixels: Picture, flavour: str, number: int) -> Dataset:
        height, width = pixels.shape[:2]
        whole = flavour == "LABEL"
        block = (height, width) if whole else (self._tile, self._tile)
        frames = [imagecodecs.jpeg8_encode(f, level=95) for f in _cut(pixels, *block)]
        raw = b"".join(frame.tobytes() for frame in _cut(pixels, *block))
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        syntax = ExplicitVRLittleEndian if self._lossless else JPEGBaseline8Bit
        image.file_meta.TransferSyntaxUID = syntax
        image.SOPClassUID = VLWholeSlideMicroscopyImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = self._study, self._series
        image.FrameOfReferenceUID = self._frame_of_reference
        image.PatientID = image.PatientName = image.StudyID = image.AccessionNumber = ""
        image.Modality, image.InstanceNumber, image.SeriesNumber = "SM", number, 1
        image.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
        image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
        image.TotalPixelMatrixFocalPlanes = image.NumberOfOpticalPaths = 1
        image.Rows, image.Columns = block
        image.NumberOfFrames = len(frames)
        image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
        image.PhotometricInterpretation = "RGB" if self._lossless else "YBR_FULL_422"
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.PixelRepresentation = 0
        image.DimensionOrganizationType = "TILED_FULL"
        image.BurnedInAnnotation = image.SpecimenLabelInImage = "NO"
        image.FocusMethod, image.ExtendedDepthOfField = "AUTO", "NO"
        image.VolumetricProperties = "VOLUME"
        image.AcquisitionDateTime = image.ContentDate = "20260102"
        image.LossyImageCompression = "00"
        image.ContainerIdentifier = self._barcode or ""
        if self._barcode is not None:
            image.BarcodeValue, image.LabelText = self._barcode, ""
        self._describe_optics(image, None if whole else self._width / width)
        if self._lossless:
            image.PixelData = raw if len(raw) % 2 == 0 else raw + b"\0"
        else:
            image.PixelData = encapsulate(frames)
        return image

    def _describe_optics(self, image: Dataset, reduction: float | None) -> None:
        image.ImagedVolumeWidth = image.ImagedVolumeHeight = 15.0
        image.ImagedVolumeDepth = 0.001
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0.0
        image.TotalPixelMatrixOriginSequence = [origin]
        image.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
        path = Dataset()
        path.OpticalPathIdentifier = "0"
        path.IlluminationTypeCodeSequence = [_code("111744", "DCM", "Brightfield illumination")]
        if self._magnification is not None:
            path.ObjectiveLensPower = self._magnification
        image.OpticalPathSequence = [path]
        groups = Dataset()
        measures = Dataset()
        measures.SliceThickness = 0.001
        if self._mpp is not None and reduction is not None:
            measures.PixelSpacing = [f"{self._mpp / 1000 * reduction:.12g}"[:16]] * 2
        groups.PixelMeasuresSequence = [measures]
        image.SharedFunctionalGroupsSequence = [groups]


def _cut(pixels: Picture, height: int, width: int) -> list[Picture]:
    down, across = -pixels.shape[0] % height, -pixels.shape[1] % width
    padded = np.pad(pixels, ((0, down), (0, across), (0, 0)), constant_values=255)
    return [
        np.ascontiguousarray(padded[y : y + height, x : x + width])
        for y in range(0, padded.shape[0], height)
        for x in range(0, padded.shape[1], width)
    ]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
