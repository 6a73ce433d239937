"""Neutralise the metadata tags of a TIFF, without a decoder (TIFF 6.0, section 2; BigTIFF)."""

import struct

_PIXEL_TAGS = frozenset({
    254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322,
    323, 324, 325, 332, 333, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521,
    529, 530, 531, 532,
})  # fmt: skip
_PROFILE, _BYTE, _UNDEFINED = 34675, 1, 7
_UNKNOWN = 65000  # a private tag, which decoders ignore
_MOST_PAGES = 4096


def without_tags(data: bytes) -> bytes:
    """Return a TIFF in which all tags that no pixel needs have become an unknown tag.

    A colour profile is kept if it lies inside of the file. All offsets stay as they are.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count, entry, offset = [
        struct.Struct(order + words)
        for words in (("Q", "HHQQ", "Q") if big else ("H", "HHLL", "L"))
    ]
    changed, seen = bytearray(data), set[int]()
    try:
        (place,) = offset.unpack_from(data, 8 if big else 4)
        while place and place not in seen and len(seen) < _MOST_PAGES:
            seen.add(place)
            (tags,) = count.unpack_from(data, place)
            first = place + count.size
            for at in range(first, min(first + tags * entry.size, len(data)), entry.size):
                tag, kind, size, where = entry.unpack_from(data, at)
                profile = tag == _PROFILE and kind in (_BYTE, _UNDEFINED)
                if tag not in _PIXEL_TAGS and not (profile and where + size <= len(data)):
                    entry.pack_into(changed, at, _UNKNOWN, _BYTE, 1, 0)
            (place,) = offset.unpack_from(data, first + tags * entry.size)
    except struct.error:  # the list of tags is cut short
        pass
    return bytes(changed)
