"""The shape in which learning rates and penalty weights fall during a training."""

import math


def half_cosine(done: float, total: float = 1.0, floor: float = 0.0) -> float:
    """Return a half cosine from 1 to ``floor`` (Loshchilov and Hutter 2017, equation 5).

    Args:
        done: Steps or share that are done; the result is 1 at 0 and before.
        total: Where the result reaches ``floor``, at which it stays.
        floor: The last value.
    """
    within = min(max(done, 0.0), total)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * within / total))
