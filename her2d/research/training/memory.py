"""How much memory a network's training takes, found without taking it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.training.hardware import (
    Hardware,
    HardwareError,
    find_hardware,
    trained_devices,
)
from her2d.research.training.recipe import NetworkRecipe, Recipe

GB = 1_000_000_000
_LIBRARIES = GB
"""For CUDA's context and the workspaces of cuDNN's algorithms, or of oneDNN's on a CPU."""
_COPIES = 4
"""Float32 copies of every weight: itself, its gradient, and Adam's two means."""
_PASSES = 3
"""A step takes as long as three forward passes: the gradients of inputs and of weights take two."""
_AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Need:
    """What training a network takes.

    Attributes:
        network: its name.
        section: the recipe's section, `segmenter` or `classifier`.
        batch: tiles of a step on each device.
        fixed: bytes on each device for a batch of any size.
        per_tile: further bytes for each tile of the batch.
        flop_per_tile: floating-point operations of a tile's step, forward and backward.
    """

    network: str
    section: str
    batch: int
    fixed: int
    per_tile: int
    flop_per_tile: int

    @property
    def memory(self) -> int:
        """Bytes on each device."""
        return self.fixed + self.batch * self.per_tile

    def most_tiles(self, free: int) -> int:
        """Return the largest batch on each device that `free` bytes take; below 2, none trains."""
        return max(0, free - self.fixed) // self.per_tile


def needed(recipe: Recipe, segmenters: Iterable[str], classifiers: Iterable[str]) -> list[Need]:
    """Return what training each of these networks takes.

    Raises:
        ValueError: There is no such network.
    """
    return [
        *(_need(recipe.segmenter, "segmenter", build_segmenter, name) for name in segmenters),
        *(_need(recipe.classifier, "classifier", build_classifier, name) for name in classifiers),
    ]


def check_memory(found: list[Need], recipe: Recipe) -> None:
    """Refuse a recipe of which a network does not fit.

    Args:
        found: what the networks take.
        recipe: the recipe that they were found for.

    Raises:
        HardwareError: one of them takes more than is free on its devices.
    """
    for need in found:
        how: NetworkRecipe = getattr(recipe, need.section)
        has = find_hardware(how)
        if need.memory > has.free:
            raise HardwareError(_refusal(need, how, has))


def _refusal(need: Need, how: NetworkRecipe, has: Hardware) -> str:
    says = (
        f"Training {need.network} with {need.batch} tiles a step on each device takes about"
        f" {need.memory / GB:.0f} GB, and {has.free / GB:.1f} GB are free on {has.name}."
    )
    ways = []
    most = need.most_tiles(has.free)
    if most >= 2:  # batch normalisation needs two
        ways.append(f"--set {need.section}.batch={most * has.devices}")
    if how.precision == "32-true":
        ways.append(f"--set {need.section}.precision=bf16-mixed")
    if has.name != "the CPU":
        ways.append("more GPUs")
    return f"{says} Try {', or '.join(ways)}." if ways else says


def _need(recipe: NetworkRecipe, section: str, build: Callable[..., nn.Module], name: str) -> Need:
    # A step of twice as many tiles differs by what the further ones take.
    how = (build, name, recipe.width_multiplier, recipe.crop, recipe.precision)
    of_two, of_four = _step(*how, 2), _step(*how, 4)
    per_tile = (of_four.saved - of_two.saved) // 2
    fixed = of_two.saved - 2 * per_tile + _COPIES * of_two.weights + _LIBRARIES
    # What is left of a batch over all devices, as `fit` divides it.
    batch = max(2, recipe.batch // trained_devices(recipe))
    return Need(name, section, batch, fixed, per_tile, _PASSES * (of_four.flop - of_two.flop) // 2)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step's numbers: bytes kept for the backward pass, and of weights; forward operations."""

    saved: int
    weights: int
    flop: int


@cache
def _step(
    build: Callable[..., nn.Module],
    name: str,
    width_multiplier: float,
    crop: int,
    precision: str,
    tiles: int,
) -> _Step:
    """Play a forward pass with tensors that have shapes and no memory."""
    kept: dict[int, int] = {}
    alive = []  # so that no storage's address is used twice
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(), counter:
        network = build(name, width_multiplier=width_multiplier).train()
        weights = [parameter.untyped_storage() for parameter in network.parameters()]
        theirs = {storage._cdata for storage in weights}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in theirs:
                kept[storage._cdata] = storage.nbytes()
                alive.append(storage)
            return tensor

        pixels = torch.empty(tiles, 3, crop, crop)
        mixed = _AUTOCAST.get(precision)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", mixed, enabled=mixed is not None),
        ):
            logits = network(pixels)
            targets = torch.empty((tiles, *logits.shape[2:]), dtype=torch.int64)
            functional.cross_entropy(logits, targets)
    # The gradients of two layers' outputs live at once in the backward pass.
    saved = sum(kept.values()) + 2 * max(kept.values())
    return _Step(saved, sum(storage.nbytes() for storage in weights), counter.get_total_flops())
