"""Folders of the user outside of data and runs: the cache, which may be deleted, and the configuration."""

import os
import sys
from pathlib import Path

from ganatomy.errors import UserError


def cache_folder() -> Path:
    """Return the folder of prepared cases: ``cases`` in $GANATOMY_CACHE, or in ~/.cache/ganatomy; it may be deleted.

    Raises:
        UserError: the user has no home folder.
    """
    given = os.environ.get("GANATOMY_CACHE")
    root = (
        Path(given)
        if given
        else _home("give --cache FOLDER where it is an option, or set GANATOMY_CACHE") / ".cache" / "ganatomy"
    )
    return root / "cases"


def config_folder() -> Path:
    """Return the folder of the user's configuration, with the secret: $GANATOMY_CONFIG, or the system's default.

    Raises:
        UserError: the user has no home folder.
    """
    if given := os.environ.get("GANATOMY_CONFIG"):
        return Path(given)
    home = _home("give --secret FILE, or set GANATOMY_CONFIG")
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming") / "ganatomy"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "ganatomy"
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "ganatomy"


def _home(remedy: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise UserError(f"there is no home folder; {remedy}") from None
