"""Care of the database while the daemon goes on writing: back up, check, prune, restore, vacuum."""

from her2d.upkeep.backups import back_up, drop_old_backups, newest_backup
from her2d.upkeep.migrating import migrate
from her2d.upkeep.pruning import Pruned, prune_tiles
from her2d.upkeep.restoring import restore
from her2d.upkeep.soundness import problems
from her2d.upkeep.space import Sizes, give_back, vacuum

__all__ = [
    "Pruned",
    "Sizes",
    "back_up",
    "drop_old_backups",
    "give_back",
    "migrate",
    "newest_backup",
    "problems",
    "prune_tiles",
    "restore",
    "vacuum",
]
