"""The same files as a folder, a zip and a tar."""

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

KINDS = ("folder", "zip", "tar")


def write_files(kind: str, place: Path, files: Mapping[str, bytes]) -> Path:
    """Files in a folder, a zip or a tar called ``set``."""
    folder = place / "set"
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if kind == "folder":
        return folder
    packed = place / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(packed, "w") as tar:
            tar.add(folder, ".")
    return packed
