"""Where gentool keeps what it can make again: caches and indexes. Touches the environment only."""

import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where cached sets live: ``GENTOOL_CACHE``, else the system's place for caches."""
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
