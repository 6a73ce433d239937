"""When the averaged model is completed by ``Model.finish``, which for example fits its prior.

This is done before the averaged weights are saved or scored, unless they have not changed since.
"""

import time

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from gentool.core.distributed import Ranks
from gentool.models.base import Model, has_fitted_parts
from gentool.training.batches import Feeder
from gentool.training.divergence import NotFinite, check_weights


class AverageFit:
    """The fits of one run: each is made once per count of images.

    Args:
        average: The averaged weights.
        feeder: Gives the images to fit to.
        ranks: The processes that train together; the first one fits.
    """

    def __init__(self, average: Model, feeder: Feeder, ranks: Ranks) -> None:
        self._average, self._feeder, self._ranks = average, feeder, ranks
        self._done_at, self._seconds = -1, 0.0

    def forget(self) -> None:
        """Fit again at the next call, as the weights were replaced."""
        self._done_at = -1

    def fit(self, images: int) -> None:
        """Fit to a sample of the training images, which depends on the images seen alone.

        Raises:
            NotFinite: a weight, or what an image is encoded to, is not finite.
        """
        if self._done_at == images:
            return
        began = time.monotonic()
        with self._ranks.of_first(NotFinite):
            if self._ranks.first:
                try:
                    self._average.finish(lambda: self._feeder.to_fit(images))
                except LinAlgError as error:
                    raise NotFinite("the data to which the average is fitted") from error
                check_weights(self._average.state_dict(), "averaged weight")
        self._done_at, self._seconds = images, time.monotonic() - began

    def fit_for_save(self, images: int, share: float) -> float:
        """Fit, and return the seconds that the last fit of the run will take beyond this one.

        Args:
            images: Images seen.
            share: Fraction of the run that is finished.
        """
        is_new = self._done_at != images
        growth = self._growth(images, share)
        self.fit(images)
        return self._seconds * (growth - is_new)

    def _growth(self, images: int, share: float) -> float:
        """Return how many times as many images the last fit will need as a fit does now."""
        if not has_fitted_parts(self._average):
            return 1.0
        at_the_end = round(images / min(max(share, 0.01), 1.0))
        return self._feeder.fit_count(at_the_end) / self._feeder.fit_count(images)
