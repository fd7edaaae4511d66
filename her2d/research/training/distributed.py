"""One process for each GPU: Lightning starts the whole command once more for each further one."""

from lightning.pytorch.utilities import rank_zero_only


def is_rank_zero() -> bool:
    """Whether this process is the one that was started by hand; the others only train networks."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0
