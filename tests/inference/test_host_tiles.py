"""The engine of the libraries that compute on the CPU."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from her2d.inference.host_tiles import HostEngine
from her2d.inference.options import BatchSizes

TILE = np.zeros((1, 512, 512, 3), np.uint8)


class Networks:
    """Two networks that note how many of them compute at once; each call waits for another."""

    def __init__(self) -> None:
        self.computing = self.most_at_once = self.calls = 0
        self._another_began = threading.Event()

    def network(self, *outputs):
        return _Network(self, list(outputs))

    def compute(self) -> None:
        self.computing += 1
        self.calls += 1
        self.most_at_once = max(self.most_at_once, self.computing)
        if self.computing > 1:
            self._another_began.set()
        self._another_began.wait(0.05)
        self.computing -= 1


class _Network:
    def __init__(self, networks, outputs) -> None:
        self._networks, self._outputs = networks, outputs

    def run(self, _tiles):
        self._networks.compute()
        return self._outputs


def test_the_two_networks_never_compute_at_once():
    networks = Networks()
    segmenter = networks.network(np.zeros(1, np.int32), np.zeros((1, 512, 512), np.uint8))
    engine = HostEngine(
        segmenter, networks.network(np.zeros((1, 5), np.float32)), "cpu", 1, BatchSizes(1, 1)
    )
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(call, TILE) for call in (engine.segment, engine.classify) * 4]:
            done.result()
    assert networks.calls == 8
    assert networks.most_at_once == 1
