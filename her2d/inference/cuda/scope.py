"""Device resources that live and end together."""

from types import TracebackType
from typing import Self, TypeVar

from her2d.inference.cuda.device import Releasable

R = TypeVar("R", bound=Releasable)


class Scope:
    """Owns what it is given and frees it in the opposite order.

    As a context manager it frees everything where the block fails, and keeps it otherwise: a
    constructor that runs out of memory half-way leaves nothing behind.
    """

    def __init__(self) -> None:
        self._owned: list[Releasable] = []

    def own(self, resource: R) -> R:
        self._owned.append(resource)
        return resource

    def free(self) -> None:
        """Free everything. Harmless if repeated."""
        while self._owned:
            self._owned.pop().free()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.free()
