"""Writers of films: animations (.gif, .webp) and videos (.mp4, .webm)."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from gentool.core.atomic_files import writing
from gentool.core.free_memory import require_memory
from gentool.core.images import Pixels
from gentool.core.picture_files import check_sides, comment_of_recipe, save_film
from gentool.core.video_files import VideoWriter
from gentool.outputs.marks import PICTURE
from gentool.outputs.ownership import Guard
from gentool.outputs.plan import NamedImage, Plan, merged_recipe
from gentool.outputs.writers import Sink


@dataclass(frozen=True)
class Film:
    """How the frames of a film are shown.

    Attributes:
        milliseconds: Time per frame.
        enlarge: Every pixel becomes a square of this many pixels per side.
    """

    milliseconds: float = 60
    enlarge: int = 1

    def check_sides(self, suffix: str, plan: Plan) -> None:
        """Check that the format allows frames of this size.

        Raises:
            UsageError: A side of the enlarged frames is longer than the format allows.
        """
        check_sides(suffix, plan.shape.width * self.enlarge, plan.shape.height * self.enlarge)

    def recipe(self, plan: Plan) -> dict[str, object]:
        """Return the recipe of a film of a plan."""
        larger = {"enlarge": self.enlarge} if self.enlarge > 1 else {}
        return {**merged_recipe(plan), "milliseconds": self.milliseconds, **larger}


class FilmSink(Sink):
    """A .gif or .webp animation with all images as its frames, which repeats for ever.

    Raises:
        UsageError: The file may not be replaced, the frames are too large for the format, or there
            is too little memory.
    """

    def __init__(self, path: Path, plan: Plan, guard: Guard, film: Film) -> None:
        super().__init__()
        self.path, self.guard, self.film = path, guard, film
        size = plan.count * plan.shape.height * plan.shape.width * max(3, plan.shape.channels)
        more = film.enlarge**2 if film.enlarge > 1 else 1
        require_memory((1 + more) * size, f"a film of {plan.count:,} frames")  # arrays, PIL images
        self.frames: list[Pixels] = []
        self._recipe = film.recipe(plan)
        film.check_sides(path.suffix.lower(), plan)
        guard.allow_recipe(path, PICTURE, self._recipe)

    def add(self, image: NamedImage) -> list[Path]:
        """Keep the frame until ``close``."""
        self.frames.append(image.pixels)
        return []

    def close(self) -> list[Path]:
        """Write the animation."""
        self.guard.allow_recipe(self.path, PICTURE, self._recipe)
        with writing(self.path) as out:
            save_film(
                self.frames, out, self.path.suffix.lower(), self.film.milliseconds, self._recipe,
                self.film.enlarge,
            )  # fmt: skip
        return [self.path]


class VideoSink(Sink):
    """An .mp4 or .webm video; frames are encoded as they come, so memory does not grow.

    Raises:
        UsageError: The file may not be replaced, or the frames are too large for the format.
    """

    def __init__(self, path: Path, plan: Plan, guard: Guard, film: Film) -> None:
        super().__init__()
        self.path, self.guard = path, guard
        self._recipe, suffix = film.recipe(plan), path.suffix.lower()
        film.check_sides(suffix, plan)
        guard.allow_recipe(path, PICTURE, self._recipe)
        comment = comment_of_recipe(self._recipe).decode()
        self._open = contextlib.ExitStack()
        out = self._open.enter_context(writing(path))
        self._video = self._open.enter_context(
            VideoWriter(out, suffix, film.milliseconds, comment, film.enlarge)
        )

    def add(self, image: NamedImage) -> list[Path]:
        """Encode one frame."""
        self._video.add(image.pixels)
        return []

    def close(self) -> list[Path]:
        """Finish the file."""
        self.guard.allow_recipe(self.path, PICTURE, self._recipe)
        self._open.close()
        return [self.path]

    def abandon(self, error: BaseException) -> None:
        """Remove the temporary file."""
        self._open.__exit__(type(error), error, error.__traceback__)
