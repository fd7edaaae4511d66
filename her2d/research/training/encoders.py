"""What makes a tile's features: a study's tile classifier, or an ONNX encoder of the user's.

Encoders such as UNI, Virchow and CONCH are licensed to their users, and her2d has none. A TOML file
describes an encoder:

    file = "encoder.onnx"             # beside the TOML file
    layout = "NCHW"                   # or NHWC
    mean = [0.485, 0.456, 0.406]      # of a float input; left out for uint8
    std = [0.229, 0.224, 0.225]
    resize = true                     # if it takes pictures of another size than 512 pixels
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from her2d.bundle.loading import sha256_of
from her2d.bundle.manifest import EncoderInput, Normalization
from her2d.errors import Her2dError
from her2d.inference.encoder_input import encoder_input
from her2d.method import FOLDS, TILE_PX
from her2d.research.networks.export import Normalized, export_features
from her2d.research.training.fit import WEIGHTS_FILE
from her2d.research.training.out_of_fold import classifiers_normalization, load_classifiers
from her2d.research.training.study import Study
from her2d.system.files import read_bounded
from her2d.system.toml import parse_toml

_DTYPES: dict[str, Literal["uint8", "float32", "float16"]] = {
    "tensor(uint8)": "uint8",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
}
_MOST_BYTES = onnx.checker.MAXIMUM_PROTOBUF
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
Positive = Annotated[float, Field(gt=0)]


class EncoderError(Her2dError):
    """An encoder cannot be used; `str(error)` says why."""


class Encoder(Protocol):
    """Makes the features of tiles.

    Attributes:
        name: What it is, for people.
        digest: SHA-256 of everything that determines the features, in hex.
        sets: Number of feature sets of a tile: one for each fold, or one for all.
        normalization: Normalisation of the tiles.
        input: What the graph takes that `export` writes.
    """

    name: str
    digest: str
    sets: int
    normalization: Normalization
    input: EncoderInput

    def features(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (N, 512, 512, 3) RGB tiles to float32 (N, sets, channels)."""

    def export(self, path: Path) -> None:
        """Write the encoder as one ONNX file, for a bundle.

        Raises:
            EncoderError: It does not fit into one file.
            OSError: The file cannot be written.
        """


class ClassifierEncoder:
    """The features that the last layer of each of the five sub-classifiers reads.

    Each sub-classifier learned from the tiles of four folds, so that a slide of the fifth is
    unknown to its own set only.

    Args:
        study: Study with all five folds of the classifier trained.
        classifier: Name of the classifier.

    Raises:
        StudyError, FitError: A network is missing or cannot be used.
    """

    def __init__(self, study: Study, classifier: str) -> None:
        self.name = f"features of {classifier}"
        self.sets = FOLDS
        self.input = EncoderInput()
        self.normalization = classifiers_normalization(study, classifier)
        paths = [study.classifier(classifier, fold) / WEIGHTS_FILE for fold in range(FOLDS)]
        self.digest = _sha256(
            [self.name, self.normalization.model_dump_json(), *map(sha256_of, paths)]
        )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._networks = [n.to(self._device) for n in load_classifiers(study, classifier)]
        mean, std = self.normalization.mean, self.normalization.std
        self._normalized = Normalized(mean, std).to(self._device)

    def features(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x = self._normalized(torch.from_numpy(tiles).to(self._device)).contiguous()
            sets = [penultimate(network, x).cpu().numpy() for network in self._networks]
        return np.stack(sets, axis=1)

    def export(self, path: Path) -> None:
        networks = [network.cpu() for network in self._networks]
        export_features(networks, path, mean=self.normalization.mean, std=self.normalization.std)
        self._networks = [network.to(self._device) for network in networks]


def penultimate(network: nn.Module, x: Tensor) -> Tensor:
    """Return what the last linear layer of a classifier reads, float32 (N, channels)."""
    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    read: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        network(x)
    finally:
        hook.remove()
    return read[0].flatten(1)


class Description(BaseModel):
    """An encoder's TOML file, see above."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    layout: Literal["NCHW", "NHWC"]
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    resize: bool = False


class OnnxEncoder:
    """An ONNX graph with one input, a batch of pictures, and a vector for each as its first output.

    Args:
        path: The TOML file that describes it.

    Raises:
        EncoderError: The file or the graph cannot be used.
    """

    def __init__(self, path: Path) -> None:
        how = read_description(path)
        graph = path.parent / how.file
        self.name = graph.name
        self.sets = 1
        self._session = _load(graph)
        self._input = _only_input(self._session, graph)
        if _DTYPES[self._input.type] == "uint8" and (how.mean or how.std):
            raise EncoderError(
                f"{path}: mean and std are for a float input, and {graph} takes uint8."
            )
        self._batch, self._size = _batch_and_size(self._input.shape, how, path)
        self.normalization = Normalization(
            mean=how.mean or (0.0, 0.0, 0.0), std=how.std or (1.0, 1.0, 1.0)
        )
        self.digest = _sha256([how.model_dump_json(), *map(sha256_of, _files(graph))])
        self.input = EncoderInput(
            layout=how.layout,
            dtype=_DTYPES[self._input.type],
            rows=self._size[0],
            columns=self._size[1],
            mean=self.normalization.mean,
            std=self.normalization.std,
            batch=1 if self._batch else None,
        )
        self.graph = graph
        self._check_output(graph)

    def features(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = self._batch or len(tiles)
        parts = [self._run(tiles[at : at + batch]) for at in range(0, len(tiles), batch)]
        found = np.concatenate(parts).astype(np.float32)
        if not np.isfinite(found).all():
            raise EncoderError(f"{self.name} gives features that are not finite numbers.")
        return found[:, None]

    def export(self, path: Path) -> None:
        # A bundle's file is verified as a whole, so weights in other files become part of it.
        size = sum(file.stat().st_size for file in _files(self.graph))
        if size > _MOST_BYTES:
            raise EncoderError(
                f"{self.graph} has {size / 1e9:.1f} GB with its weights, and an ONNX file in a"
                " bundle holds 2 GB. Export it in float16."
            )
        onnx.save_model(onnx.load_model(self.graph), path)

    def _run(self, tiles: NDArray[np.uint8]) -> NDArray[Any]:
        given = {self._input.name: encoder_input(tiles, self.input)}
        return np.asarray(self._session.run(None, given)[0])

    def _check_output(self, graph: Path) -> None:
        """Refuse a graph that does not make a vector of each of two blank tiles."""
        tiles = np.full((2, TILE_PX, TILE_PX, 3), 255, np.uint8)
        try:
            found = np.concatenate([self._run(t) for t in np.split(tiles, 2 if self._batch else 1)])
        except Exception as error:  # onnxruntime raises its own, of many types
            raise EncoderError(f"{graph} cannot encode two tiles: {error}.") from error
        if found.ndim != 2 or len(found) != 2:
            raise EncoderError(
                f"{graph} must give one vector for each tile, (2, features) for two of them. It"
                f" gives {found.shape}. Export it with its pooled or class-token output first."
            )


def read_description(path: Path) -> Description:
    """Read an encoder's TOML file.

    Raises:
        EncoderError: It cannot be read, or a key is not valid.
    """
    try:
        return Description.model_validate(parse_toml(read_bounded(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise EncoderError(f"{path}, {where}: {first['msg']}.") from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"Cannot read the encoder's description {path}: {error}.") from error


def _load(graph: Path) -> onnxruntime.InferenceSession:
    if not graph.is_file():
        raise EncoderError(f"There is no encoder {graph}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = [p for p in onnxruntime.get_available_providers() if p in _PROVIDERS]
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=providers)
    except Exception as error:  # onnxruntime raises its own, of many types
        raise EncoderError(f"{graph} is not an ONNX graph that can be run: {error}.") from error


def _files(graph: Path) -> list[Path]:
    """Return the files that hold a graph and its weights; large ones keep weights in others."""
    model = onnx.load_model(graph, load_external_data=False)
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    names = {entry.value for entry in entries if entry.key == "location"}
    return [graph, *(graph.parent / name for name in sorted(names))]


def _only_input(session: onnxruntime.InferenceSession, graph: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        found = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise EncoderError(f"{graph} must have one input, a batch of pictures. It has {found}.")
    if inputs[0].type not in _DTYPES:
        raise EncoderError(
            f"{graph} must take uint8, float32 or float16. It takes {inputs[0].type}."
        )
    return inputs[0]


def _batch_and_size(
    shape: Sequence[int | str | None], how: Description, path: Path
) -> tuple[int | None, tuple[int, int]]:
    """Return the graph's batch, None if any, and the rows and columns of its pictures."""
    batch, *rest = (size if isinstance(size, int) and size > 0 else None for size in shape)
    channels = rest.pop(0 if how.layout == "NCHW" else 2)
    if channels not in (3, None):
        raise EncoderError(
            f"{path}: with the layout {how.layout} the encoder takes {channels} channels, and tiles"
            " have 3. Is the other layout meant?"
        )
    if batch not in (1, None):
        raise EncoderError(
            f"{path}: the encoder takes batches of {batch} only. Export it for batches of any size."
        )
    rows, columns = (size or TILE_PX for size in rest)
    if (rows, columns) != (TILE_PX, TILE_PX) and not how.resize:
        raise EncoderError(
            f"{path}: the encoder takes {rows} x {columns} pixels, and tiles have {TILE_PX} x"
            f" {TILE_PX}. Set resize = true to have tiles made smaller, or export it for {TILE_PX}."
        )
    return batch, (rows, columns)


def _sha256(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
