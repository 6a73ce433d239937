"""The options of a film: how long a frame lasts, how long all last, and how large a pixel is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli.console import say
from gentool.core.errors import UsageError

if TYPE_CHECKING:
    from gentool.outputs.destination import Destination
    from gentool.outputs.films import Film

_STEPS, _MILLISECONDS = 16, 60  # defaults, which --help states

Milliseconds = Annotated[
    int | None,
    typer.Option(
        "--milliseconds", min=1, max=65_535, metavar="MS",
        help="Duration of a frame of a film; default: 60.",
    ),
]  # fmt: skip
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps", min=0.1, max=1000, metavar="N",
        help="Frames per second, instead of --milliseconds.",
    ),
]  # fmt: skip
Seconds = Annotated[
    float | None,
    typer.Option(
        "--seconds", min=0.01, max=86_400, metavar="S",
        help="Duration of the whole film, instead of --steps.",
    ),
]  # fmt: skip
Enlarge = Annotated[
    int | None,
    typer.Option(
        "--enlarge", min=1, max=64, metavar="N",
        help="Show every pixel of a film as N x N pixels, with sharp edges.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class FilmOptions:
    """The options as they were given; None where one was not."""

    milliseconds: int | None
    fps: float | None
    seconds: float | None
    enlarge: int | None
    steps: int | None

    def check(self, place: "Destination") -> None:
        """Check that the options fit together and that the output is a film.

        Raises:
            UsageError: they do not, or it is none.
        """
        if self.milliseconds is not None and self.fps is not None:
            raise UsageError("--milliseconds and --fps are both the duration of a frame. Give one")
        if self.seconds is not None and self.steps is not None:
            raise UsageError("--seconds and --steps are both the number of frames. Give one")
        if place.form == "film":
            return
        for name in ("milliseconds", "fps", "seconds", "enlarge"):
            if getattr(self, name) is not None:
                raise UsageError(
                    f"--{name} is for a film, and -o {place.path} is none. Leave it out, or write "
                    "a film: -o film.gif, film.webp, film.mp4 or film.webm"
                )

    def film(self, place: "Destination") -> "Film":
        """Return how the frames are shown, and print a note if the format changes the time."""
        from gentool.core.picture_files import film_time
        from gentool.outputs.films import Film

        time = self.milliseconds or (1000 / self.fps if self.fps else _MILLISECONDS)
        if place.form == "film":
            time, note = film_time(place.path.suffix.lower(), time)
            if note:
                say(f"note: {note}")
        return Film(time, self.enlarge or 1)

    def steps_between(self, keys: int, film: "Film", *, loop: bool) -> int:
        """Return the number of frames from one of ``keys`` key frames to the next."""
        if self.seconds is None:
            return self.steps or _STEPS
        frames, legs = self.seconds * 1000 / film.milliseconds, keys if loop else keys - 1
        return max(1, round((frames if loop else frames - 1) / legs))
