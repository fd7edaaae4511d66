"""The loop both networks are trained with: Adam, cross-entropy, one cycle of the learning rate."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

_WEIGHT_DECAY = 1e-3  # the paper's (section 4.3)


def optimise(
    network: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    learning_rate: float,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Take `steps` steps on `batches` of (input, class indices); leaves the network in eval mode.

    `progress` is told each step's loss.
    """
    optimizer = torch.optim.Adam(
        network.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY * learning_rate
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    network.train()
    for _ in range(steps):
        inputs, targets = next(batches)
        # Channels-last input to narrow convolutions makes oneDNN's backward pass (torch 2.13.0 on
        # AVX-512) write outside its memory, which ends the process or, worse, does not.
        loss = functional.cross_entropy(network(inputs.contiguous()), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress(float(loss.detach()))
    network.eval()
