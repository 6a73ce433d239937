"""Pen strokes of the digits 0 to 9, as plain data.

Each digit has one or more styles. A style is a tuple of strokes, and a stroke is a curve through
points (x, y) in the unit square, with y pointing downwards. Two strokes meet at each corner.
"""

from typing import NamedTuple


class Stroke(NamedTuple):
    """A smooth curve through ``points`` (x, y), which returns to its start if ``closed``."""

    points: tuple[tuple[float, float], ...]
    closed: bool = False


Style = tuple[Stroke, ...]


def _line(*points: tuple[float, float]) -> Stroke:
    return Stroke(points)


# fmt: off
_ZERO: Style = (Stroke(((.5, .03), (.76, .14), (.86, .5), (.74, .88), (.5, .97),
                        (.26, .88), (.14, .5), (.24, .14)), closed=True),)
_ONE: tuple[Style, ...] = (
    (_line((.5, .03), (.5, .97)),),
    (_line((.3, .24), (.53, .03)), _line((.53, .03), (.53, .97))),
    (_line((.3, .22), (.52, .03)), _line((.52, .03), (.52, .97)), _line((.26, .97), (.8, .97))),
)
_TWO: tuple[Style, ...] = (
    (_line((.17, .27), (.3, .07), (.58, .03), (.8, .2), (.72, .46), (.45, .72), (.14, .96)),
     _line((.14, .96), (.88, .95))),
    (_line((.18, .22), (.42, .03), (.74, .12), (.74, .42), (.46, .78), (.24, .93), (.18, .8),
           (.36, .78), (.6, .93), (.88, .9)),),
)
_THREE: tuple[Style, ...] = (
    (_line((.18, .15), (.45, .03), (.76, .14), (.72, .38), (.42, .48)),
     _line((.42, .48), (.74, .55), (.84, .77), (.6, .95), (.34, .96), (.14, .84))),
    (_line((.2, .05), (.8, .05)), _line((.8, .05), (.46, .42)),
     _line((.46, .42), (.8, .52), (.84, .78), (.56, .96), (.16, .86))),
)
_FOUR: tuple[Style, ...] = (
    (_line((.64, .03), (.12, .66)), _line((.12, .66), (.9, .66)), _line((.66, .34), (.66, .97))),
    (_line((.24, .05), (.18, .5)), _line((.18, .5), (.8, .5)), _line((.76, .05), (.7, .97))),
    (_line((.66, .03), (.12, .64)), _line((.12, .64), (.9, .64)), _line((.66, .03), (.66, .97))),
)
_FIVE: tuple[Style, ...] = (
    (_line((.8, .05), (.28, .05)), _line((.28, .05), (.22, .46)),
     _line((.22, .46), (.5, .37), (.8, .5), (.82, .78), (.54, .97), (.16, .86))),
)
_SIX: tuple[Style, ...] = (
    (_line((.7, .04), (.42, .2), (.22, .55), (.26, .86), (.54, .97), (.8, .82), (.78, .58),
           (.52, .48), (.25, .66)),),
    (_line((.62, .03), (.32, .36), (.18, .7), (.34, .94), (.62, .95), (.78, .74), (.6, .56),
           (.34, .6), (.2, .78)),),
)
_SEVEN: tuple[Style, ...] = (
    (_line((.14, .06), (.86, .06)), _line((.86, .06), (.6, .46), (.4, .97))),
    (_line((.14, .06), (.86, .06)), _line((.86, .06), (.6, .46), (.42, .97)),
     _line((.34, .5), (.8, .48))),
)
_EIGHT: tuple[Style, ...] = (
    (Stroke(((.5, .48), (.24, .34), (.24, .13), (.5, .03), (.76, .13), (.76, .34), (.5, .48),
             (.18, .66), (.2, .88), (.5, .97), (.8, .88), (.82, .66)), closed=True),),
)
_NINE: tuple[Style, ...] = (
    (Stroke(((.76, .28), (.6, .06), (.34, .06), (.2, .28), (.34, .5), (.6, .5)), closed=True),
     _line((.76, .28), (.74, .6), (.62, .97))),
    (Stroke(((.74, .26), (.52, .04), (.26, .16), (.24, .4), (.48, .52), (.7, .4)), closed=True),
     _line((.74, .26), (.74, .97))),
)
# fmt: on

GLYPHS: tuple[tuple[Style, ...], ...] = (
    (_ZERO,), _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _SEVEN, _EIGHT, _NINE,
)  # fmt: skip
