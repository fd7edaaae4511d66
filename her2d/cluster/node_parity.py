"""Compare a node's engine with the daemon's machine, on the same tiles.

A broken GPU, driver or memory shows as another answer; a slide must never be called by such a node.
"""

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.cluster.plan import ParityReference
from her2d.inference.engine import Engine, EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine
from her2d.inference.parity import compare, findings
from her2d.simulator.tissue import tissue_tiles

_TILES = 4


def parity_reference(bundle: Bundle) -> ParityReference:
    """Compute what every node must find.

    Raises:
        EngineError: it failed.
    """
    tiles = tissue_tiles(_TILES)
    engine = OnnxRuntimeEngine(bundle)
    try:
        return ParityReference(tiles, findings(engine, tiles))
    finally:
        engine.close()


def require_parity(bundle: Bundle, engine: Engine, reference: ParityReference, node: str) -> None:
    """Check that an engine finds what the reference says, within the bundle's tolerance.

    Raises:
        EngineError: it differs too much, or failed.
    """
    parity = compare(
        reference.findings,
        findings(engine, reference.tiles),
        Integrator(bundle),
        tumor_fraction=bundle.manifest.preprocessing.tumor_fraction,
        verified_on=node,
    )
    if (reason := parity.refusal(bundle.manifest.tolerance)) is not None:
        raise EngineError(f"Its engine fails the parity check. {reason}")
