"""Which files of a folder or an archive are taken as images, by their names and first bytes.

Files are taken by their suffix. Only if no file at all has the suffix of an image, files without
a suffix are taken whose first bytes are those of an image. So a listing opens no file of an
ordinary folder. Opens no file itself.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from gentool.core.errors import DataError
from gentool.data.encoded import FORMATS
from gentool.data.intake import HIDDEN, LITTER, NO_SUFFIX, Passed, Tally, passed_over
from gentool.data.kinds import image_format, name_kind
from gentool.data.sources.advice import advice_inside

K = TypeVar("K", bound=Hashable)  # what stands for a file
SUFFIXES = {
    "PNG": ".png .apng",
    "JPEG": ".jpg .jpeg .jfif .jpe .jfi .jif .pjpeg .pjp .mpo",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm",
    "AVIF": ".avif .avifs",
    "QOI": ".qoi",
    "DDS": ".dds",
    "SGI": ".sgi",
    "PCX": ".pcx",
    "TGA": ".tga",
    "ICO": ".ico",
    "PSD": ".psd",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
}
IMAGE_SUFFIXES = frozenset(s for kind in FORMATS for s in SUFFIXES[kind].split())
_LITTER = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "@synoresource", "@tmp", "@sharebin", "#recycle",
    "#snapshot", "$recycle.bin", "recycler", "recycled", "system volume information",
    "lost+found", "lost.dir", "found.000", "network trash folder", "temporary items",
    "thedatabase.noindex", "__macosx", "__pycache__", "thumbs.db", "thumbs.db:encryptable",
    "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "pagefile.sys",
    ".ds_store", ".thumbnails", ".thumb", ".thumbs", ".trash", ".trashes", ".fseventsd",
    ".spotlight-v100", ".temporaryitems", ".documentrevisions-v100", ".apdisk", ".appledouble",
    ".directory", ".picasa.ini", ".picasaoriginals", ".ipynb_checkpoints", ".lrt", ".@__thumb",
    ".thumbdata", ".recycle", ".nomedia",
})  # fmt: skip
_LITTER_STARTS = ("._", ".trash-", ".thumbdata", ".nfs", ".fuse_hidden", "~$", "synofile_thumb")
_LONGEST_SUFFIX = 12  # with the dot; what is longer is a part of a name
_ALL_CHECKED = 64  # so many files without a suffix are all checked by their first bytes


def why_skipped(name: str) -> str | None:
    """Return why a file or folder with this name (without folders) is skipped, else None."""
    lower = name.lower()
    if lower in _LITTER or lower.startswith(_LITTER_STARTS):
        return LITTER
    return HIDDEN if name.startswith(".") else None


def is_image(name: str) -> bool:
    """Return whether a file with this name (without folders) has the suffix of an image."""
    return _last_suffix(name) in IMAGE_SUFFIXES


def _last_suffix(name: str) -> str:
    """Return what ``PurePath.suffix`` would be, in lower case, in a tenth of its time."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def suffix_of(name: str) -> str:
    """Return the suffix in lower case; empty if there is none, or only a part of a name.

    ``photo.2024-01-31`` and ``photo.jpg?width=100`` have no suffix.
    """
    suffix = _last_suffix(name)
    plain = suffix[1:].isalnum() and suffix.isascii() and not suffix[1:].isdecimal()
    return suffix if plain and len(suffix) <= _LONGEST_SUFFIX else ""


def reason_of(name: str) -> str:
    """Return the reason for passing over a file that does not have the suffix of an image."""
    return suffix_of(name.rpartition("/")[2]) or NO_SUFFIX


def find_images(files: Sequence[K], head: Callable[[K], bytes]) -> set[K]:
    """Return those files without a suffix whose first bytes are those of an image.

    Of more than ``_ALL_CHECKED`` files a sample is read, and if all of it are images, all files
    are taken.

    Args:
        files: The files.
        head: Returns the first bytes of a file, b"" if it cannot be read.
    """
    step = max(1, len(files) // _ALL_CHECKED)
    if step > 1 and all(is_readable(head(file)) for file in files[::step]):
        return set(files)
    return {file for file in files if is_readable(head(file))}


def is_readable(head: bytes) -> bool:
    """Return whether first bytes are those of an image in a format that gentool reads."""
    return image_format(head) in FORMATS


def with_kind(rows: Iterable[Passed], head: Callable[[str], bytes]) -> tuple[Passed, ...]:
    """Return rows of what was passed over; that of files without a suffix says what the first is.

    Args:
        rows: What was passed over.
        head: Returns the first bytes of a file, b"" if it cannot be read; then nothing is said.
    """
    return tuple(_about(row, head(row.first)) if row.reason == NO_SUFFIX else row for row in rows)


def _about(row: Passed, head: bytes) -> Passed:
    return Passed(row.reason, row.count, row.first, (name_kind(head) or "") if head else "")


def no_images(place: str, tally: Tally, *, packed: bool) -> DataError:
    """Return the error for a folder or an archive without any image.

    Args:
        place: The folder or the archive.
        tally: What was passed over.
        packed: Whether it is an archive.
    """
    rows = tally.passed()
    found = f"There is {passed_over(rows)}" if rows else "It holds nothing that could be an image"
    advice = advice_inside(rows, place, packed=packed)
    where = place if packed else f"the folder {place}"
    return DataError(
        f"there are no images in {where} (with subfolders, searched for .jpg, .png, .webp, .bmp, "
        f".gif, .tif and others, upper or lower case). {found}. {advice}"
    )
