"""The engine of a bundle that calls slides as a whole: segmenter, encoder and attention.

Only ONNX Runtime on the CPU runs it, in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import EncoderInput, Mil, ReferenceBag
from her2d.inference.encoder_input import encoder_input
from her2d.inference.engine import EngineError, KeptTile, TileEngine, Tiles
from her2d.inference.graph_files import loading_graph
from her2d.inference.host_tiles import HostTileEngine, stacked
from her2d.inference.onnxruntime_engine import open_segmenter, open_session
from her2d.inference.options import BatchSizes, EngineOptions, recorded_name
from her2d.inference.ways import simplest_way
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

Features = NDArray[np.float16]
"""float16 (T, sets, channels): what the encoder makes of T tiles.

Half precision, because training stores features so, and attention learned from these numbers.
"""

HEAD_OUTPUTS = ("p_positive", "attention")
_INPUT_TYPES = {
    "uint8": "tensor(uint8)",
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
}
_REFERENCE_TILES = 3


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention makes of a slide.

    Attributes:
        p_positive: the probability that it is HER2-positive, mean of the networks.
        attention: float32 (T,), the weight of each tile, mean of the networks; its sum is 1.
    """

    p_positive: float
    attention: NDArray[np.float32]


class MilEngine(TileEngine, Protocol):
    """A bundle's segmenter, encoder and attention. Safe to call from several threads at once."""

    @property
    def mil(self) -> Mil:
        """What the bundle says of its method."""
        ...

    def encode(self, tiles: Tiles) -> Features:
        """Make the features of tiles. Raises EngineError."""
        ...

    def encode_kept(self, tiles: Sequence[KeptTile]) -> Features:
        """Make the features of tiles that this engine's batches kept, and release them always.

        Raises:
            EngineError: the engine failed.
        """
        ...

    def attend(self, features: Features) -> Attended:
        """Call a slide by the features of its T >= 1 tumour tiles. Raises EngineError."""
        ...


class OnnxRuntimeMilEngine(HostTileEngine):
    """A bundle's three graphs in fp32, as ONNX Runtime sessions on the CPU.

    Args:
        bundle: a verified bundle with `mil`.
        threads: number of threads in all; 0 is one for each core this process may use.

    Raises:
        BundleError: it is another method's bundle.
        EngineError: a graph cannot be loaded, or takes or gives something else than the manifest
            says.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        threads = threads or usable_cpus()
        way = simplest_way(threads)
        self._mil = bundle.mil
        self._encoder = _Encoder(bundle, way.threads)
        self._head = _Head(bundle, way.threads)
        super().__init__(
            open_segmenter(bundle, way),
            recorded_name("onnxruntime", "fp32"),
            threads,
            BatchSizes(way.batch, way.batch),
        )

    @property
    def mil(self) -> Mil:
        return self._mil

    def encode(self, tiles: Tiles) -> Features:
        with self.cpus.engine():
            return self._encoder.encode(tiles)

    def encode_kept(self, tiles: Sequence[KeptTile]) -> Features:
        return self.encode(stacked(tiles))

    def attend(self, features: Features) -> Attended:
        with self.cpus.engine():
            return self._head.attend(features)

    def close(self) -> None:
        super().close()
        del self._encoder, self._head


def open_mil_engine(bundle: Bundle, *, backend: str, options: EngineOptions) -> MilEngine:
    """Open a bundle with `mil`.

    Args:
        bundle: a verified bundle.
        backend: `auto` or `onnxruntime`.
        options: how the engine runs; only the threads and the precision matter.

    Raises:
        BundleError: it is another method's bundle.
        EngineError: another back end or precision is wanted, or a graph cannot be used.
    """
    if backend not in ("auto", "onnxruntime"):
        raise EngineError(
            f"{backend} cannot run the bundle {bundle.directory}, which calls slides by attention"
            ' (mil): set [inference] backend to "auto" or "onnxruntime".'
        )
    if options.precision not in (None, "fp32"):
        raise EngineError(
            f"The bundle {bundle.directory}, which calls slides by attention (mil), runs in fp32"
            f" only, not in {options.precision}."
        )
    return OnnxRuntimeMilEngine(bundle, threads=options.threads)


def reference_tiles() -> Tiles:
    """Draw tiles that are the same everywhere and always: grey ramps and checks in three hues.

    They show no tissue, so that no bundle holds a patient's pixels for its self-test.
    """
    y, x = np.mgrid[:TILE_PX, :TILE_PX]
    tiles = np.empty((_REFERENCE_TILES, TILE_PX, TILE_PX, 3), np.uint8)
    for number in range(_REFERENCE_TILES):
        ramp = (x * (number + 1) + y) // (number + 2) % 256
        checks = ((x >> (number + 3)) + (y >> (number + 4))) % 2 * 90
        for channel in range(3):
            tiles[number, ..., channel] = (ramp * (channel + 2) // 4 + checks) % 256
    return tiles


def reference_bag(engine: MilEngine) -> ReferenceBag:
    """Compute what a bundle's manifest states of the reference tiles. Raises EngineError."""
    found = engine.attend(engine.encode(reference_tiles()))
    weights = tuple(float(weight) for weight in found.attention)
    return ReferenceBag(p_positive=found.p_positive, attention=weights)


def mil_self_test(engine: MilEngine) -> None:
    """Check that an engine works, and finds what the manifest states of the reference tiles.

    Raises:
        EngineError: it failed, or finds something else.
    """
    tiles = reference_tiles()
    engine.segment(tiles[:1])
    expected, found = engine.mil.reference, engine.attend(engine.encode(tiles))
    wanted = np.array([expected.p_positive, *expected.attention])
    got = np.array([found.p_positive, *found.attention])
    if wanted.shape != got.shape:
        raise EngineError(
            f"The bundle's mil.reference.attention has {len(expected.attention)} numbers, and there"
            f" are {len(tiles)} reference tiles."
        )
    if (difference := float(np.abs(wanted - got).max())) > expected.tolerance:
        raise EngineError(
            f"The engine differs by {difference:.2g} from what the bundle states of its reference"
            f" tiles, and may differ by {expected.tolerance:g}: it does not compute what was"
            " evaluated."
        )


def check_mil_bundle(bundle: Bundle) -> None:
    """Load a bundle's graphs and compute its reference tiles.

    Raises:
        BundleError: it is another method's bundle.
        EngineError: a graph cannot be used, or finds something else than the manifest states.
    """
    engine = OnnxRuntimeMilEngine(bundle)
    try:
        mil_self_test(engine)
    finally:
        engine.close()


class _Encoder:
    """Makes features of tiles, as the manifest says that the graph takes them."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._path, self._mil = bundle.encoder, bundle.mil
        with loading_graph(self._path, bundle.mil_parts.encoder.sha256) as graph:
            self._session = open_session(self._path, graph, threads)
        self._input = _checked_input(self._path, self._session, self._mil.input)
        self._output = self._session.get_outputs()[0].name

    def encode(self, tiles: Tiles) -> Features:
        batch = self._mil.input.batch or len(tiles)
        parts = [self._run(tiles[at : at + batch]) for at in range(0, len(tiles), batch)]
        found = np.concatenate(parts)
        expected = (len(tiles), self._mil.sets, self._mil.channels)
        if found.shape[0] != len(tiles) or found.size != np.prod(expected):
            raise EngineError(
                f"The encoder {self._path} gives {found.shape} for {len(tiles)} tiles, and the"
                f" manifest says {self._mil.sets} x {self._mil.channels} features for each."
            )
        with np.errstate(over="ignore"):
            features = found.reshape(expected).astype(np.float16)
        if not np.isfinite(features).all():
            raise EngineError(
                f"The encoder {self._path} gives features that are not finite numbers, or exceed"
                " the range of half precision."
            )
        return features

    def _run(self, tiles: Tiles) -> NDArray[Any]:
        try:
            given = encoder_input(tiles, self._mil.input)
            return np.asarray(self._session.run([self._output], {self._input: given})[0])
        except Exception as error:
            raise EngineError(
                f"The encoder {self._path} failed on a batch of {len(tiles)} tiles: {error}"
            ) from error


_SUM_TOLERANCE = 1e-3
"""Of the weights of many tiles, float32."""


class _Head:
    """The networks that weigh features and call the slide."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._path = bundle.attention
        with loading_graph(self._path, bundle.mil_parts.attention.sha256) as graph:
            self._session = open_session(self._path, graph, threads)
        inputs = [(one.name, one.type, tuple(one.shape[1:])) for one in self._session.get_inputs()]
        sets, channels = bundle.mil.sets, bundle.mil.channels
        if inputs != [("features", "tensor(float)", (sets, channels))]:
            raise EngineError(
                f"{self._path} must have one input, features, float32 (T, {sets}, {channels}). It"
                f" has {', '.join(f'{name} {shape}' for name, _, shape in inputs)}."
            )
        if missing := set(HEAD_OUTPUTS) - {one.name for one in self._session.get_outputs()}:
            raise EngineError(f"{self._path} lacks the output {', '.join(sorted(missing))}.")

    def attend(self, features: Features) -> Attended:
        given = {"features": features.astype(np.float32)}
        try:
            p, attention = self._session.run(list(HEAD_OUTPUTS), given)
        except Exception as error:
            raise EngineError(
                f"{self._path} failed on the features of {len(features)} tiles: {error}"
            ) from error
        if p.ndim != 1 or not p.size or attention.shape != (len(features), p.size):
            raise EngineError(
                f"{self._path} gives p_positive {p.shape} and attention {attention.shape} for"
                f" {len(features)} tiles. It must give (networks,) and ({len(features)}, networks)."
            )
        if not (np.isfinite(p).all() and np.isfinite(attention).all()):
            raise EngineError(f"{self._path} gives values that are not finite numbers.")
        if p.min() < 0 or p.max() > 1 or attention.min() < 0:
            raise EngineError(f"{self._path} gives probabilities or weights outside 0 to 1.")
        if not np.allclose(attention.sum(axis=0), 1, atol=_SUM_TOLERANCE):
            raise EngineError(f"{self._path} gives weights whose sum is not 1.")
        return Attended(float(p.mean()), np.asarray(attention.mean(axis=1), np.float32))


def _checked_input(path: Path, session: ort.InferenceSession, how: EncoderInput) -> str:
    """Return the name of the encoder's input. Raises EngineError if it takes something else."""
    inputs = session.get_inputs()
    size = (how.rows, how.columns)
    wanted = (3, *size) if how.layout == "NCHW" else (*size, 3)
    fits = len(inputs) == 1 and all(
        found.type == _INPUT_TYPES[how.dtype]
        and len(found.shape) == 4
        and all(
            not isinstance(has, int) or has == wants
            for has, wants in zip(found.shape[1:], wanted, strict=True)
        )
        and (how.batch == 1 or found.shape[0] != 1)
        for found in inputs
    )
    if not fits:
        has = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise EngineError(
            f"The manifest's mil.input says that {path} takes {how.dtype} (N, {wanted[0]},"
            f" {wanted[1]}, {wanted[2]}). It takes {has or 'nothing'}."
        )
    return str(inputs[0].name)
