"""The default GAN loss and penalties on 25 Gaussians: all are found, with few samples between them.

The grid is that of Srivastava et al. 2017 (arXiv:1705.07761, section 4.1) and Lin et al. 2018
(arXiv:1712.04086, section 4.1): spacing 2, standard deviation 0.05, here in units of 4. A
continuous map of N(0, I) must have samples between one Gaussian and the next, and fewer if it is
steeper. A discriminator with too small slopes prevents this, so gamma decays by a factor of 100
here. The decay, the rates, the interval and the scale of z are choices of this test.
"""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gentool.core.rng import Draw
from gentool.models.base import LossTerms
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.model import GAN
from gentool.models.gan.penalties import CriticTurn
from gentool.models.gan.penalty_list import Penalties

STEPS, BATCH, LR = 50_000, 256, 1e-3
LATENT_SCALE = 4.0
SPREAD = 0.0125
FIRST, LAST = 0.1, 1e-3  # gamma, falling exponentially
EVERY = 4
SETTLING = 0.4  # share of the run in which the learning rate falls, to a fiftieth
HALF_LIFE = 200  # of the averaged weights, in steps


def means() -> torch.Tensor:
    """Of the Gaussians, (25, 2)."""
    return torch.cartesian_prod(*[torch.linspace(-1, 1, 5)] * 2)


def layers(*sizes: int) -> nn.Sequential:
    """Dense layers with leaky ReLUs between."""
    inner = [(nn.Linear(a, b), nn.LeakyReLU(0.2)) for a, b in pairwise(sizes)]
    return nn.Sequential(*[module for pair in inner for module in pair][:-1])


class Discriminator(nn.Module):
    """Points (B, 2) -> logits (B,), by way of random waves: plain layers see no detail so small."""

    waves: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", 4 * torch.randn(2, 32))
        self.net = layers(66, 128, 128, 128, 1)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Logits of points."""
        phases = points @ self.waves
        seen = torch.cat([points, phases.sin(), phases.cos()], dim=1)
        return self.net(seen).squeeze(1)  # type: ignore[no-any-return]


class Game:
    """Two dense players, their optimisers and the generator's average."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        options = GAN.Config()
        self.g, self.d = layers(2, 128, 128, 128, 128, 2), Discriminator()
        self.average = deepcopy(self.g)
        self.loss = LOSSES.get(options.loss)
        self.penalties = Penalties(
            options.penalties, {"r1": FIRST, "r2": FIRST}, {"r1": EVERY, "r2": EVERY}
        )
        self.optimisers = [
            torch.optim.Adam(player.parameters(), lr=lr, betas=(0.5, 0.99))
            for player, lr in ((self.d, LR), (self.g, 2 * LR))
        ]

    @staticmethod
    def real() -> torch.Tensor:
        """Points (BATCH, 2) of the data."""
        return means()[torch.randint(25, (BATCH,))] + SPREAD * torch.randn(BATCH, 2)

    @staticmethod
    def latents(count: int) -> torch.Tensor:
        """Draws z (count, 2)."""
        return LATENT_SCALE * torch.randn(count, 2)

    def step(self, step: int) -> None:
        """A turn of each player."""
        share = step / STEPS
        factor = min(1.0, (1 - share) / SETTLING)
        for optimiser, lr in zip(self.optimisers, (LR, 2 * LR), strict=True):
            optimiser.param_groups[0]["lr"] = lr * max(factor, 1 / 50)
        self._turn(0, self._critic_loss(step, share))
        fake = self.d(self.g(self.latents(BATCH)))
        with torch.no_grad():
            real = self.d(self.real())
        self._turn(1, self.loss.generator(real, fake))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.g.parameters(), strict=True):
                mean.lerp_(now, 1 - 0.5 ** (1 / HALF_LIFE))

    def _turn(self, player: int, losses: torch.Tensor) -> None:
        self.optimisers[player].zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        self.optimisers[player].step()

    def _critic_loss(self, step: int, share: float) -> torch.Tensor:
        real = self.real()
        with torch.no_grad():
            fake = self.g(self.latents(BATCH))
        leaves = self.penalties.leaves(step)
        real.requires_grad_("real" in leaves)
        fake.requires_grad_("fake" in leaves)
        draw = Draw(0, "critic", np.arange(BATCH), step, torch.device("cpu"))
        critic: Any = self.d
        turn = CriticTurn(critic, real, fake, self.d(real), self.d(fake), draw)
        more: LossTerms = self.penalties(turn, (LAST / FIRST) ** share)
        return self.loss.critic(turn.real_logits, turn.fake_logits) + more.total


@pytest.mark.slow
def test_the_default_s_loss_and_penalties_find_25_gaussians_and_little_between() -> None:
    game = Game()
    for step in range(STEPS):
        game.step(step)
    with torch.no_grad():
        points = game.average(game.latents(10_000))
    distances, nearest = torch.cdist(points, means()).min(dim=1)
    near = distances < 4 * SPREAD
    shares = torch.bincount(nearest[near], minlength=25) / near.sum()
    assert near.float().mean() >= 0.95
    assert shares.min() > 0.2 / 25
