"""Priors p(z): the distribution that samples are drawn from, as a part of the model.

The codes of an encoder do not fill N(0, I), and the decoder is not trained where there are none. A
prior is therefore fitted to the codes of the training images when training ends (ex-post density
estimation, Ghosh et al. 2020, arXiv:1903.12436), or learned jointly with the model, or learned in
the last span of the run. It is a part of the model file. ``-o prior=NAME`` chooses it at training.
"""

from collections.abc import Iterable

from gentool.core.registry import Entry, Registry, at
from gentool.models.priors.base import (
    Codes,
    Prior,
    choose,
    draw_normal,
    draw_uniform,
    kl_to_standard_normal,
    log_normal,
    log_standard_normal,
)

__all__ = [
    "FITTED",
    "PRIORS",
    "RETIRED",
    "Codes",
    "Prior",
    "choose",
    "draw_normal",
    "draw_uniform",
    "kl_to_standard_normal",
    "log_normal",
    "log_standard_normal",
    "which_know",
]

_HERE = "gentool.models.priors"

PRIORS: Registry[type[Prior]] = Registry(
    "prior",
    "gentool list priors",
    {
        "normal": Entry(
            "N(0, I), the prior of the bound", at(f"{_HERE}.gaussian", "StandardNormal")
        ),
        "gaussian": Entry(
            "one Gaussian with full covariance, fitted to the codes",
            at(f"{_HERE}.gaussian", "FullGaussian"),
        ),
        "mixture": Entry(
            "a mixture of full Gaussians, fitted to the codes",
            at(f"{_HERE}.mixture", "FittedMixture"),
        ),
        "flow": Entry(
            "affine couplings (RealNVP), fitted by maximum likelihood",
            at(f"{_HERE}.coupling", "CouplingFlow"),
        ),
        "latent-flow": Entry(
            "a velocity field over the grid of latents, trained in the last part of the run",
            at(f"{_HERE}.latent_flow", "LatentFlow"),
        ),
        "vamp": Entry(
            "mixture of the posteriors of learned images, trained jointly (VampPrior, Tomczak "
            "2018)",
            at(f"{_HERE}.vamp", "VampPrior"),
        ),
    },
    retired={
        "flow-matching": Entry(
            "a velocity field from noise to codes, fitted (Lipman 2023)",
            at(f"{_HERE}.flow_matching", "FlowMatching"),
        ),
    },
)

RETIRED = {"flow-matching": "Use -o prior=mixture, whose samples were better in every measurement"}
FITTED = ("gaussian", "mixture", "flow")  # need no bound, so they fit any encoder


def which_know(classes: int, prior: str, names: Iterable[str]) -> str:
    """Return why a prior ignores that many classes, and which of ``names`` would use them."""
    own = PRIORS.get(prior).most_classes
    knows = f"at most {own:,} classes" if own else "no classes"
    others = [name for name in names if PRIORS.get(name).most_classes >= classes]
    better = f"; {', '.join(others)} can" if others else ""
    return f"-o prior={prior} can use {knows}{better}"
