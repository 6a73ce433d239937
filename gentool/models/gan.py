"""The generative adversarial network: a generator and a discriminator as a two-player game.

Goodfellow et al. 2014 (arXiv:1406.2661): min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]. The
discriminator takes the first turn of a step, the generator the second. Which loss they play
is an entry of ``adversarial``; R1 and R2 (Mescheder et al. 2018) keep the game stable and are
applied lazily, every few steps with the weight raised to match (Karras et al. 2020).

``gentool train gan --data FOLDER -o loss=minimax -o penalty=0`` plays Eq. 1 as printed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import one_hot

from gentool.config import option
from gentool.images import ImageShape
from gentool.models.adversarial import LOSSES, squared_gradient_norm
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.priors import draw_normal, draw_uniform
from gentool.networks.convnet import Decoder, Encoder
from gentool.rng import Draw

_EMBEDDING = 64  # numbers that a class becomes beside z
_DECAY = 0.1  # share of the learning rate left at the end; the averages then settle
_BETAS = (0.0, 0.99)  # no momentum: the game turns, and momentum overshoots (Mescheder 2018)


class Generator(nn.Module):
    """z (B, L), followed by the shares of C classes, -> images (B, C, H, W) in (-1, 1).

    The classes are embedded and stand beside z as more of the same.
    """

    class_shares: torch.Tensor

    def __init__(
        self, shape: ImageShape, width: int, latent_size: int, norm: str, classes: int
    ) -> None:
        super().__init__()
        self.latent_size, self.classes = latent_size, classes
        inputs = latent_size
        if classes:
            self.embedding = nn.Linear(classes, _EMBEDDING, bias=False)
            nn.init.normal_(self.embedding.weight)
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))
            inputs += _EMBEDDING
        self.net = Decoder(shape, width, inputs, shape.channels, norm)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of latents (B, L + classes)."""
        if self.classes:
            z, kinds = latents[:, : self.latent_size], latents[:, self.latent_size :]
            latents = torch.cat([z, self.embedding(kinds)], dim=1)
        return torch.tanh(self.net(latents).float())


class Discriminator(nn.Module):
    """Images, and the classes they claim to be of, -> logits.

    The projection discriminator (Miyato and Koyama 2018, arXiv:1802.05637, Eq. 3): the inner
    product of the class's embedding with the features is added to the unconditional logit.
    """

    def __init__(self, shape: ImageShape, width: int, classes: int) -> None:
        super().__init__()
        # No normalisation in D: a penalty per image needs logits that depend on one image.
        self.net = Encoder(shape, width, 1)
        self.embedding = None
        if classes:
            self.embedding = nn.Linear(classes, self.net.head.in_features, bias=False)
            bound = self.net.head.in_features**-0.5  # as the unconditional head begins
            nn.init.uniform_(self.embedding.weight, -bound, bound)

    def forward(self, images: torch.Tensor, kinds: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B,) of images (B, C, H, W) and shares of classes (B, classes)."""
        features = self.net.features(images)
        logits = self.net.head(features).float().squeeze(1)
        if self.embedding is not None and kinds is not None:
            logits = logits + (self.embedding(kinds) * features).float().sum(dim=1)
        return logits  # type: ignore[no-any-return]


class GAN(Model):
    """Generator and discriminator; only the generator is exported."""

    exported = ("generator",)
    takes_classes = True

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``gan``."""

        width: int = option(
            48, "channels of the widest grid; scales both networks", low=1, high=1024
        )
        latent_size: int = option(128, "length of z", low=1, high=4096)
        loss: str = option("relativistic", "the game that is played", choices=LOSSES)
        penalty: float = option(
            1.0, "gamma of R1 and R2, the penalties on D's gradient (0: none)", low=0, high=1e4
        )
        penalty_every: int = option(
            8, "steps between penalties, whose weight makes up for it", low=1, high=1024
        )
        norm: str = option(
            "batch", "normalisation in the generator", choices=("none", "batch", "group")
        )

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.generator = Generator(shape, config.width, config.latent_size, config.norm, classes)
        self.discriminator = Discriminator(shape, config.width, classes)
        self._loss = LOSSES.get(config.loss)

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rows z ~ N(0, I) and one-hot classes, shape (B, latent_size + classes)."""
        z = draw_normal(indices, seed, self.config.latent_size, self.device)
        if not self.classes:
            return z
        if labels is None:
            edges = self.generator.class_shares.cumsum(0)[:-1]
            labels = torch.bucketize(draw_uniform(indices, seed, self.device), edges, right=True)
        return torch.cat([z, self._kinds(labels)], dim=1)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """G(z)."""
        return self.generator(latents)  # type: ignore[no-any-return]

    def phases(self) -> tuple[Phase, ...]:
        """The discriminator's turn, then the generator's."""
        return (
            Phase(
                "discriminator", self.discriminator, self._critic_loss, betas=_BETAS, decay=_DECAY
            ),
            Phase("generator", self.generator, self._generator_loss, betas=_BETAS, decay=_DECAY),
        )

    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Remember how frequent the classes are."""
        if self.classes:
            counts = torch.zeros(self.classes, device=self.device)
            for batch in batches():
                assert batch.labels is not None
                counts += torch.bincount(batch.labels, minlength=self.classes)
            self.generator.class_shares.copy_(counts / counts.sum())

    def _kinds(self, labels: torch.Tensor) -> torch.Tensor:
        return one_hot(labels.to(self.device), self.classes).float()

    def _conditions(self, batch: Batch) -> torch.Tensor | None:
        """The classes of a batch, which its fakes are made in, too."""
        if not self.classes:
            return None
        assert batch.labels is not None
        return self._kinds(batch.labels)

    def _fakes(self, draw: Draw, kinds: torch.Tensor | None) -> torch.Tensor:
        z = draw.normal("latents", self.config.latent_size)
        return self.generator(z if kinds is None else torch.cat([z, kinds], dim=1))  # type: ignore[no-any-return]

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        kinds = self._conditions(batch)
        with torch.no_grad():
            fakes = self._fakes(draw, kinds)
        logits = partial(self.discriminator, kinds=kinds)
        penalised = self.config.penalty > 0 and draw.step % self.config.penalty_every == 0
        if penalised:
            real, r1 = squared_gradient_norm(logits, batch.images)
            fake, r2 = squared_gradient_norm(logits, fakes)
        else:
            real, fake = logits(batch.images), logits(fakes)
        loss = self._loss.critic(real, fake)
        parts = {"d_loss": loss, "margin": real - fake}
        if not penalised:
            return LossTerms(loss, parts)
        weight = self.config.penalty_every * self.config.penalty / 2
        return LossTerms(loss + weight * (r1 + r2), {**parts, "r1": r1, "r2": r2})

    def _generator_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        kinds = self._conditions(batch)
        fake = self.discriminator(self._fakes(draw, kinds), kinds)
        real = fake.detach()
        if self._loss.needs_real:
            with torch.no_grad():
                real = self.discriminator(batch.images, kinds)
        loss = self._loss.generator(real, fake)
        return LossTerms(loss, {"g_loss": loss})
