"""Video files with recipes: frames are encoded one by one, so a long film needs little memory.

An ``.mp4`` holds H.264, which every player and browser shows; a ``.webm`` holds VP9. Both need the
library PyAV (``pip install 'gentool[video]'``), whose packages contain FFmpeg with x264 (GPL). The
recipe, which describes how the film was made, is the comment of the file.
"""

import json
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.pil_images import lay_on, to_pil

VIDEO_SUFFIXES = (".mp4", ".webm")
# Codec and its options. A constant quality near "visually lossless"; one thread and no random
# identifiers make the same frames the same bytes.
_CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("mp4", "libx264", {"crf": "14", "preset": "medium"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "18", "b": "0", "row-mt": "0"}),
}
_MP4, _WEBM = b"ftyp", b"\x1a\x45\xdf\xa3"  # at offset 4, and at the start
_MOST_COMMENT = 2**17  # bytes of a comment that are read


def require_video(suffix: str) -> None:
    """Check that films with this suffix can be written here.

    Raises:
        UsageError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{suffix} films need the library PyAV. Run pip install 'gentool[video]', or write a "
            ".gif or .webp"
        ) from error


class VideoWriter:
    """Encodes frames of one size into a video file; a context manager.

    Args:
        stream: Binary file to write to; it must allow seeking.
        suffix: ``.mp4`` or ``.webm``.
        milliseconds: Time per frame.
        comment: The comment of the file.
        enlarge: Every pixel becomes a square of this many pixels per side.

    Raises:
        UsageError: PyAV is not installed.
    """

    def __init__(
        self, stream: BinaryIO, suffix: str, milliseconds: float, comment: str, enlarge: int = 1
    ) -> None:
        require_video(suffix)
        import av

        form, self._codec, self._options = _CODECS[suffix]
        self._rate = 1000 / Fraction(milliseconds).limit_denominator(1000)
        self._enlarge = enlarge
        self._file: Any = av.open(stream, "w", format=form, options={"fflags": "+bitexact"})
        self._file.metadata["comment"] = comment
        self._stream: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._stream is not None:
            self._file.mux(self._stream.encode())  # the frames that the encoder still holds
        self._file.close()

    def add(self, pixels: Pixels) -> None:
        """Encode one frame.

        Args:
            pixels: uint8 (H, W, C); transparent images are laid on white.
        """
        import av

        image = to_pil(pixels)
        if image.mode == "RGBA":
            image = lay_on(image, "white")
        rgb = np.asarray(image.convert("RGB"))
        rgb = rgb.repeat(self._enlarge, axis=0).repeat(self._enlarge, axis=1)
        if self._stream is None:
            self._stream = self._open(*rgb.shape[:2])
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))

    def _open(self, height: int, width: int) -> Any:
        stream = self._file.add_stream(self._codec, rate=self._rate, options=self._options)
        stream.height, stream.width = height, width
        # Colours at half the resolution, because many players show nothing else.
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        return stream


def suffix_of_video(data: Any) -> str | None:
    """Return the suffix of a video by its first bytes; None for other files."""
    return ".mp4" if data[4:8] == _MP4 else ".webm" if data[:4] == _WEBM else None


def comment_of_video(data: Any, first: bytes) -> bytes | None:
    """Return the comment of a video file from its first word on; None for other files.

    The file is not decoded: the comment is a JSON object behind ``first``.

    Args:
        data: The bytes of the file, which may be a memory map.
        first: The first word of the comment, with the space behind it.
    """
    if suffix_of_video(data) is None:
        return None
    place = data.find(first + b"{")
    if place < 0:
        return None
    text = bytes(data[place + len(first) : place + _MOST_COMMENT]).decode("ascii", "replace")
    _, end = json.JSONDecoder().raw_decode(text)
    return first + text[:end].encode()
