"""What a user can mistake: these end as one sentence, everything else is a bug and a traceback."""

from her2d.bundle import BundleError
from her2d.database import DatabaseError
from her2d.inference import EngineError
from her2d.intake import RefusedByQueue
from her2d.ops import AlreadyRunningError, CannotListenError
from her2d.results import AmbiguousBundle, AmbiguousSlide, BundleNotFound, SlideNotFound
from her2d.settings import SettingsError
from her2d.slides import SlideError


class UserError(Exception):
    """A command cannot do what was asked; the sentence says why."""


EXPECTED_ERRORS = (
    AlreadyRunningError,
    AmbiguousBundle,
    AmbiguousSlide,
    BundleError,
    BundleNotFound,
    CannotListenError,
    DatabaseError,
    EngineError,
    RefusedByQueue,
    SettingsError,
    SlideError,
    SlideNotFound,
    UserError,
)
