"""What a file system tells about a change of a file, beside its size and modification time.

Programs can set the modification time of a file to any value, so a file may be overwritten by
another of equal size and equal time. A stamp has what they cannot set. It says nothing about the
content: a copy, a restored backup or ``chmod`` gives another stamp. So a stamp that is unknown is
a reason to compare the contents, and never by itself a reason to take images for other ones.
"""

import hashlib
import os
from collections.abc import Iterable


def change_of(info: os.stat_result) -> str:
    """Return the time of the last change of a file and, where it helps, its number on the disk.

    Some file systems, such as those of remote storage, keep no time of change and report the
    modification time instead. Their numbers of files differ after each mount, so the number is
    left out where both times are equal.
    """
    changed = info.st_ctime_ns
    return f"{changed} {info.st_ino if changed != info.st_mtime_ns else 0}"


def stamp_of_file(info: os.stat_result) -> str:
    """Return the stamp of a single file, with its size and time."""
    return f"{info.st_size} {info.st_mtime_ns} {change_of(info)}"


def stamp_of(words: Iterable[str]) -> str:
    """Return one stamp for several."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()
