"""The table of quantisers by name; a quantiser turns a grid of vectors into a grid of codes.

Importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from gentool.core.registry import Entry, Registry, at

if TYPE_CHECKING:
    from gentool.models.quantisers.base import Quantiser

_HERE = "gentool.models.quantisers"

QUANTISERS: "Registry[type[Quantiser]]" = Registry(
    "quantiser",
    "gentool list quantisers",
    {
        "fsq": Entry(
            "finite scalar quantisation (Mentzer 2023): bounds and rounds, without a codebook",
            at(f"{_HERE}.scalar", "FiniteScalar"),
        ),
        "vq": Entry(
            "nearest vector of a learned codebook (van den Oord 2017), with restarts",
            at(f"{_HERE}.codebook", "Codebook"),
        ),
    },
)
