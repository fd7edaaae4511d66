"""Print memory and steps a second of training each full-size network in bf16 on CUDA.

Usage: training_step.py [BATCH...]
"""

import sys
import time

import torch
from torch.nn import functional

from her2d.method import TILE_PX
from her2d.research.networks.build import CLASSIFIERS, SEGMENTERS, build_classifier, build_segmenter
from her2d.research.networks.export import Normalized

STEPS, WARM_UPS = 5, 3


def step(network, normalized, optimizer, tiles, targets) -> None:
    """Take one step as `TileTraining` does under Lightning's precision bf16-mixed."""
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        loss = functional.cross_entropy(network(normalized(tiles).contiguous()), targets)
    loss.backward()
    optimizer.step()


def measure(network, targets, batch: int) -> str:
    network = network.cuda().train()
    normalized = Normalized((0.75, 0.60, 0.78), (0.16, 0.18, 0.12)).cuda()
    optimizer = torch.optim.Adam(network.parameters())
    tiles = torch.randint(0, 256, (batch, TILE_PX, TILE_PX, 3), dtype=torch.uint8, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for at in range(WARM_UPS + STEPS):
        if at == WARM_UPS:
            torch.cuda.synchronize()
            started = time.perf_counter()
        step(network, normalized, optimizer, tiles, targets)
    torch.cuda.synchronize()
    per_s = STEPS / (time.perf_counter() - started)
    memory = torch.cuda.max_memory_allocated() / 2**30
    return f"{memory:.1f} GiB | {per_s:.2f} | {per_s * batch:.0f}"


print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
print("| network | batch | memory | steps/s | tiles/s |")
print("| --- | --- | --- | --- | --- |")
for name in (*SEGMENTERS, *CLASSIFIERS):
    for batch in [int(given) for given in sys.argv[1:]] or [32, 64]:
        segments = name in SEGMENTERS
        shape = (batch, TILE_PX, TILE_PX) if segments else (batch,)
        targets = torch.randint(0, 2, shape, device="cuda")
        try:
            found = measure(
                (build_segmenter if segments else build_classifier)(name), targets, batch
            )
        except torch.OutOfMemoryError:
            found = "out of memory"
        torch.cuda.empty_cache()
        print(f"| {name} | {batch} | {found} |", flush=True)
