"""Care of the database while the daemon goes on writing: back up, check, prune, restore."""

from her2d.upkeep.backups import back_up, drop_old_backups
from her2d.upkeep.pruning import Pruned, prune_tiles
from her2d.upkeep.restoring import restore
from her2d.upkeep.soundness import problems

__all__ = ["Pruned", "back_up", "drop_old_backups", "problems", "prune_tiles", "restore"]
