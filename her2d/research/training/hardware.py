"""What a network is trained on: GPUs and their free memory, or the CPU."""

from dataclasses import dataclass

import psutil
import torch

from her2d.errors import Her2dError
from her2d.research.training.recipe import AUTO, FitRecipe
from her2d.system.cpus import usable_cpus

_MOST_LOADERS = 8  # for each device; a tile's reading and augmenting takes less than its step


class HardwareError(Her2dError):
    """This machine cannot train a network of the recipe; `str(error)` says what would help."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a network is trained on.

    Attributes:
        name: of the device, such as `NVIDIA RTX A6000`, or `the CPU`.
        devices: number of processes, one for each GPU.
        free: memory that each of them may still take, in bytes.
    """

    name: str
    devices: int
    free: int


def find_hardware(recipe: FitRecipe) -> Hardware:
    """Find what a network of this recipe is trained on, on this machine.

    Raises:
        HardwareError: the recipe asks for more GPUs than there are.
    """
    devices, gpus = trained_devices(recipe), _gpus(recipe)
    if gpus == 0:
        return Hardware("the CPU", devices, psutil.virtual_memory().available // devices)
    if devices > gpus:
        raise HardwareError(f"The recipe asks for {devices} GPUs, and there are {gpus}.")
    free = min(torch.cuda.mem_get_info(number)[0] for number in range(devices))
    return Hardware(torch.cuda.get_device_name(0), devices, free)


def trained_devices(recipe: FitRecipe) -> int:
    """Return the number of devices that a network of this recipe is trained on."""
    return max(1, _gpus(recipe)) if recipe.devices == AUTO else recipe.devices


def loader_workers(recipe: FitRecipe) -> int:
    """Return how many processes read the tiles of one device; 0 reads them in the training's."""
    if recipe.loader_workers != AUTO:
        return recipe.loader_workers
    # One CPU is left to the training itself.
    return min(_MOST_LOADERS, max(0, usable_cpus() // trained_devices(recipe) - 1))


def _gpus(recipe: FitRecipe) -> int:
    return 0 if recipe.accelerator == "cpu" else torch.cuda.device_count()
