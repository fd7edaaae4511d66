"""How fast a bundle runs on this machine: engines, the whole pipeline, and the floor under both."""

from her2d.benchmark.contenders import CONTENDERS, Contender
from her2d.benchmark.measure import Order, Progress, Subject, measure
from her2d.benchmark.report import (
    Decoding,
    Floor,
    Machine,
    Rate,
    Report,
    Row,
    Skipped,
    Spread,
)
from her2d.benchmark.slide import write_tissue_slide

__all__ = [
    "CONTENDERS",
    "Contender",
    "Decoding",
    "Floor",
    "Machine",
    "Order",
    "Progress",
    "Rate",
    "Report",
    "Row",
    "Skipped",
    "Spread",
    "Subject",
    "measure",
    "write_tissue_slide",
]
