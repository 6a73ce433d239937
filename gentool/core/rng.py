"""Random numbers as a function of (seed, purpose, sample index), without a generator state.

Data order, latents and noise are computed from the sample index: row ``i`` does not depend on
the batch size, the number of workers or the point where a run was resumed, so a run has to save
only its count of images. The bits come from the counter-based generator Philox (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3") of numpy, with keys from ``SeedSequence``.
Normal numbers use the method of Box and Muller (1958), which, unlike rejection methods, needs a
fixed number of bits per value and so can be indexed.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**63 - 1
_WORDS_PER_BLOCK = 4  # one Philox counter yields four 64-bit words
_FEISTEL_ROUNDS = 8


def purpose_word(part: str | int) -> int:
    """Return the 64-bit integer that stands for a part of a purpose in a key."""
    return int.from_bytes(hashlib.sha256(str(part).encode()).digest()[:8], "little")


def derive_key(seed: int, *purpose: str | int) -> NDArray[np.uint64]:
    """Mix ``seed`` and ``purpose`` into a Philox key, uint64 (2,)."""
    words = [seed, *map(purpose_word, purpose)]
    return np.random.SeedSequence(words).generate_state(2, np.uint64).astype(np.uint64)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for code that needs a seed, such as torch's initialisers."""
    return int(derive_key(seed, *purpose)[0] >> np.uint64(1))


def _runs(indices: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Split ``indices`` into runs of consecutive values, (start, length) each."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    for run in np.split(indices, breaks):
        if len(run):
            yield int(run[0]), len(run)


def random_words(
    seed: int, purpose: str, indices: NDArray[np.int64], size: int
) -> NDArray[np.uint64]:
    """Return random 64-bit integers, one row per index.

    Args:
        seed: Any integer in [0, 2^63).
        purpose: Name of the use; different names give independent numbers.
        indices: Global sample indices, int64 (N,).
        size: Numbers per row.

    Returns:
        uint64 (N, size); row i depends only on (seed, purpose, indices[i], size).
    """
    blocks = -(-size // _WORDS_PER_BLOCK)
    key = derive_key(seed, purpose, size)
    rows = [
        np.random.Philox(counter=start * blocks, key=key)
        .random_raw(count * blocks * _WORDS_PER_BLOCK)
        .reshape(count, blocks * _WORDS_PER_BLOCK)[:, :size]
        for start, count in _runs(np.asarray(indices, dtype=np.int64))
    ]
    return np.concatenate(rows) if rows else np.empty((0, size), dtype=np.uint64)


def uniform(seed: int, purpose: str, indices: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return uniform numbers in [0, 1) with 53 random bits, float64 (N, size)."""
    words = random_words(seed, purpose, indices, size)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, purpose: str, indices: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Return standard normal numbers, float32 (N, size) (Box and Muller 1958)."""
    pairs = -(-size // 2)
    u = uniform(seed, purpose, indices, 2 * pairs)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, :pairs]))
    angle = 2.0 * np.pi * u[:, pairs:]
    z = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return z[:, :size].astype(np.float32)


def permute(
    positions: NDArray[np.int64], length: int, key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Apply a pseudo-random permutation of {0, ..., length - 1} to ``positions``, int64 (N,).

    It is a balanced Feistel network on the next power of four, applied again to a value until
    the value is less than ``length`` (cycle walking: Black and Rogaway 2002, "Ciphers with
    arbitrary finite domains"). It needs no table, so the cost does not depend on ``length``.

    Args:
        positions: Values in [0, length), int64 (N,).
        length: Size of the permuted set.
        key: uint64 (2,), from ``derive_key``; each key gives another permutation.

    Returns:
        int64 (N,).
    """
    half = max(1, -(-(length - 1).bit_length() // 2))
    mask = np.uint64((1 << half) - 1)
    round_keys = np.random.SeedSequence([int(k) for k in key]).generate_state(
        _FEISTEL_ROUNDS, np.uint64
    )

    def encrypt(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> np.uint64(half), values & mask
        for round_key in round_keys:
            mixed = right + round_key  # wraps modulo 2^64, as the mixing steps below require
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
        return (left << np.uint64(half)) | right

    out = encrypt(np.asarray(positions, dtype=np.int64).astype(np.uint64))
    while (outside := out >= length).any():  # the power is at most 4 length: 4 steps on average
        out[outside] = encrypt(out[outside])
    return out.astype(np.int64)


def data_order(seed: int, start: int, count: int, length: int) -> NDArray[np.int64]:
    """Return the image numbers at ``count`` positions, from ``start``, of an endless shuffle.

    Each pass over the ``length`` images has its own permutation.

    Returns:
        Numbers in [0, length), int64 (count,).
    """
    positions = np.arange(start, start + count, dtype=np.int64)
    epochs = positions // length
    out = np.empty(count, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        out[here] = permute(positions[here] % length, length, derive_key(seed, "order", int(epoch)))
    return out


@dataclass(frozen=True)
class Draw:
    """Random numbers of one step, one row for each of its global sample indices.

    Attributes:
        seed: The run's seed.
        phase: Name of the phase, so that two phases never use the same noise.
        indices: Global sample indices, int64 (B,).
        step: Number of earlier steps, for penalties with an interval.
        device: Device of the random numbers.
        share: Fraction of the run that is over, from 0 to 1, for schedules.
    """

    seed: int
    phase: str
    indices: NDArray[np.int64]
    step: int
    device: "torch.device"
    share: float = 0.0

    def normal(self, purpose: str, *shape: int) -> "torch.Tensor":
        """Return standard normal noise, float32 (B, *shape)."""
        import torch  # not at module level: data and its worker processes start without torch

        from gentool.core.devices import to_device

        values = normal(self.seed, f"{self.phase}/{purpose}", self.indices, int(np.prod(shape)))
        return to_device(torch.from_numpy(values).view(-1, *shape), self.device)

    def uniform(self, purpose: str, *shape: int) -> "torch.Tensor":
        """Return uniform numbers in [0, 1), multiples of 2^-24, float32 (B, *shape)."""
        import torch

        from gentool.core.devices import to_device

        size = int(np.prod(shape))
        values = uniform(self.seed, f"{self.phase}/{purpose}", self.indices, size)
        # Round down to the 24 bits of float32; rounding to nearest could give 1.
        rounded = (np.floor(values * 2.0**24) * 2.0**-24).astype(np.float32)
        return to_device(torch.from_numpy(rounded).view(-1, *shape), self.device)
