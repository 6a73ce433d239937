"""The folder for files that gentool can create again: caches and indexes. Reads no files."""

import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ``GENTOOL_CACHE`` if set, else the usual one of the system."""
    if chosen := os.environ.get("GENTOOL_CACHE"):
        return Path(chosen).expanduser()
    try:
        home = Path.home()
    except RuntimeError:  # no HOME and no entry in the password file
        return Path(tempfile.gettempdir()) / "gentool-cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "gentool"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "gentool"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "gentool"
