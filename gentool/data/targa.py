"""TGA images, which have no first bytes to recognise them by. Opens no file."""

import struct

_LAST = b"TRUEVISION-XFILE.\0"  # the last bytes of version 2
_HEADER = struct.Struct("<3B2HB4H2B")
_MAPPED, _COLOUR, _GREY = (1, 9), (2, 10), (3, 11)  # types of images, each plain and packed
_DEPTHS = {**dict.fromkeys(_MAPPED, (8,)), **dict.fromkeys(_COLOUR, (16, 24, 32)),
           **dict.fromkeys(_GREY, (8, 16))}  # fmt: skip
_MAP_DEPTHS = (15, 16, 24, 32)


def is_targa(data: bytes) -> bool:
    """Return whether a whole file is a TGA: by its end, or by a header in which all is allowed."""
    if data.endswith(_LAST):
        return True
    if len(data) < _HEADER.size:
        return False
    _, mapped, kind, first, size, bits, _, _, width, height, depth, flags = _HEADER.unpack_from(
        data
    )
    if kind not in _DEPTHS or depth not in _DEPTHS[kind] or not width or not height:
        return False
    if flags & 0xC0 or flags & 0x0F > 8:
        return False
    if kind in _MAPPED:
        return bool(mapped == 1 and first + size <= 256 and size and bits in _MAP_DEPTHS)
    return bool(mapped == first == size == bits == 0)


def without_alpha(data: bytes) -> bool:
    """Return whether a TGA of four channels says that the fourth has no meaning."""
    if not is_targa(data):
        return False
    *_, depth, flags = _HEADER.unpack_from(data)
    return bool(depth == 32 and flags & 0x0F == 0)
