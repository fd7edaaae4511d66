"""Read which scikit-learn a bundle's integrator was made with.

scikit-learn promises nothing about models of another version
(https://scikit-learn.org/stable/model_persistence.html), and results may differ without an error.
"""

import io
import json
import zipfile
from importlib.metadata import version
from typing import Any

from her2d.bundle.loading import Bundle, read_verified
from her2d.bundle.manifest import BundleError
from her2d.system.loggers import get_logger

_SCHEMA = "schema.json"
_KEY = "_sklearn_version"  # scikit-learn adds it to the state of every estimator


log = get_logger(__name__)


def log_other_scikit_learn(bundle: Bundle) -> None:
    """Log a warning if another scikit-learn is installed than the integrator was made with.

    Raises:
        BundleError: as for `scikit_learn_of`.
    """
    made_with, installed = scikit_learn_of(bundle), version("scikit-learn")
    if made_with not in (None, installed):
        log.warning("bundle_of_other_scikit_learn", made_with=made_with, installed=installed)


def scikit_learn_of(bundle: Bundle) -> str | None:
    """Return the version of scikit-learn that the integrator was made with; None if not recorded.

    Raises:
        BundleError: the integrator's file cannot be read.
    """
    content = read_verified(bundle.integrator, bundle.her2net.integrator.sha256)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            schema = json.loads(archive.read(_SCHEMA))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise BundleError(
            f"The integrator of {bundle.directory} cannot be read: {error}"
        ) from error
    return _version_in(schema)


def _version_in(schema: Any) -> str | None:
    """Find the first estimator's version; skops stores a text as JSON in the node's `content`."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            found = node.get(_KEY)
            if isinstance(found, dict):
                return str(found.get("content")).strip('"')
            waiting += node.values()
    return None
