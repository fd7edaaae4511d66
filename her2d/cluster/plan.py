"""What passes between the daemon, the driver process and the nodes of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle
from her2d.cluster.scaling import ScalingRules
from her2d.inference.parity import Findings
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.software import Software
from her2d.settings import InferenceSettings, PipelineSettings


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What a node must have and how it computes. A node that differs is not used.

    Attributes:
        bundle, calibration: paths on the node; no calibration is that beside the bundle, if any.
        bundle_digest, calibration_digest: of the daemon's.
        software: what computes, as recorded with each result.
        libraries: versions of what reads scans; see `library_versions`.
        inference, pipeline: the daemon's settings.
        cpus: CPUs that an actor takes, which are its engine's threads.
        gpus: GPUs that an actor takes.
        spool, spool_mb: folder on the node for slides that it lacks, and how much of it an actor
            may take.
    """

    bundle: Path
    calibration: Path | None
    bundle_digest: str
    calibration_digest: str | None
    software: Software
    libraries: Mapping[str, str | None]
    inference: InferenceSettings
    pipeline: PipelineSettings
    cpus: int
    gpus: int
    spool: Path = Path("/var/tmp")
    spool_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class DriverOrder:
    """What the driver process does.

    Attributes:
        address: `[cluster] address`.
        plan: what nodes must have.
        bundle: the daemon's, which nodes' engines are compared with.
        cpus_taken: of a node by each actor, so that no other work gets them.
        most_actors: on each node.
        scaling: how many actors there are on all nodes.
        connect_s: seconds in which the cluster has to answer once it is connected. Ray waits half a
            minute for a connection, and without a limit for an answer on it.
    """

    address: str
    plan: NodePlan
    bundle: Bundle
    cpus_taken: int
    most_actors: int
    scaling: ScalingRules
    connect_s: float = 120.0


@dataclass(frozen=True, slots=True)
class ParityReference:
    """Tiles and what ONNX Runtime in fp32 finds in them on the daemon's machine.

    Attributes:
        tiles: uint8 (N, 512, 512, 3).
        findings: of those tiles.
    """

    tiles: NDArray[np.uint8]
    findings: Findings


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What an actor says of itself.

    Attributes:
        refusal: one sentence why the node cannot be used; None if it can.
        busy_s: seconds that its engine's busiest stage has worked.
    """

    refusal: str | None
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SlideTask:
    """A slide to score on a node.

    Attributes:
        id: of this attempt.
        path, inbox: on the node; see `open_scan`.
        size, mtime_ns, first_block: of the file on the daemon's machine, by which the node
            recognises it; see `FileState` and `Scan.first_block`.
        assume_magnification: where the file states none.
        content_hash: which the file must have on the node; None if the daemon's machine has not
            read all of it.
        can_be_sent: whether the daemon sends the file to a node that lacks it.
        unreadable_on: names of the nodes that could not read the file.
        is_sent: whether the node waits for the file, although it may be able to open it.
    """

    id: str
    path: Path
    inbox: Path | None
    size: int
    mtime_ns: int
    first_block: str
    assume_magnification: float | None
    content_hash: str | None = None
    can_be_sent: bool = False
    unreadable_on: frozenset[str] = frozenset()
    is_sent: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file that is sent to a node.

    Attributes:
        offset: of the part in the file, in bytes.
        data: its bytes.
        content_hash: of the whole file; the last part has it.
    """

    offset: int
    data: bytes
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is: tiles done and tiles in all, and megabytes hashed beside them.

    Attributes:
        content_hash: of the file, once all of it was read.
        waited: how often the node has said that it waits, for room or for the file.
        wants_file: whether it lacks the file, and waits for it.
    """

    done: int = 0
    total: int = 0
    hashed_mb: int = 0
    content_hash: str | None = None
    waited: int = 0
    wants_file: bool = False


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a node found in a slide.

    Attributes:
        content_hash: of the file that was scored.
        outcome: has the slide's tiles and an overview of two megapixels.
    """

    content_hash: str
    outcome: SlideOutcome


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt has no outcome. An error's cause is lost on its way, so it travels beside it.

    Attributes:
        error: what the retry policy decides by.
        cause: the error's `__cause__`.
    """

    error: Exception
    cause: BaseException | None = None

    def to_raise(self) -> Exception:
        """Return the error with its cause."""
        self.error.__cause__ = self.cause
        return self.error


Answer: TypeAlias = NodeResult | Failure
"""How an attempt ended."""

NodeState = Literal["idle", "starting", "usable", "refused"]
"""An idle node could be used, and no engine is wanted on it."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One living node.

    Attributes:
        id: Ray's.
        name: its host's.
        actors: number of actors that score.
        refusal: why the node is not used, in one sentence; None if it is.
        cpus, gpus: that Ray may use there.
        slides: number of slides that are being scored there.
        scored, lost: attempts that had a result, and that ended because of the node or one of its
            processes, since the driver has known the node.
        busy_s: seconds that its engines' busiest stages have worked, added up.
    """

    id: str
    name: str
    state: NodeState
    actors: int = 0
    refusal: str | None = None
    cpus: float = 0
    gpus: float = 0
    slides: int = 0
    scored: int = 0
    lost: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster as the driver last saw it.

    Attributes:
        nodes: those that live and have CPUs or GPUs for an actor.
        places: number of slides that all actors take at once.
        age_s: how long ago that was, in seconds.
        wanted: number of actors that the waiting slides need.
        starting: number of actors that were started and have not answered yet.
        requested: number of actors for which Ray's autoscaler was asked to start a node.
        waiting_s: for how long actors have been wanted and none could be used.
    """

    nodes: tuple[NodeStatus, ...] = field(default=())
    places: int = 0
    age_s: float = 0.0
    wanted: int = 0
    starting: int = 0
    requested: int = 0
    waiting_s: float = 0.0
