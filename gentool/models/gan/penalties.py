"""Penalties: terms added to the loss of discriminator or generator to keep the training stable.

A penalty is an entry of ``PENALTIES``: a small module that returns one value per image from the
tensors of an update, so that several penalties share one forward pass. R1, for example, uses the
logits that the loss uses; for this, ``real`` must be a leaf of the graph before the forward pass
(``leaves``). Running means are buffers and are saved with the state; random numbers come from the
``draw`` of the update.

A penalty that is applied in every k-th step only is weighted k times (lazy regularisation, Karras
et al. 2020, arXiv:1912.04958, section 3.1), so that its sum over many steps stays the same.

Gradients are those of the sum of the logits of the batch. If the discriminator compares images of a
batch, as with the minibatch standard deviation, the value of an image depends on the other images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import nn

from gentool.core.distributed import batch_mean
from gentool.core.registry import Entry, Registry, at
from gentool.core.rng import Draw
from gentool.models.augmentation import open_augmentation
from gentool.models.gan.losses import squared_slope


class Critic(Protocol):
    """Function (images, labels) -> logits (B,), with augmentation if there is any."""

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, use: str = "other"
    ) -> torch.Tensor:
        """Return logits (B,).

        ``use`` names the noise of the augmentation; ``real`` and ``fake`` repeat that of the
        update's own logits.
        """


Decoded = tuple[tuple[torch.Tensor, torch.Tensor], ...]

_SPREAD = 0.5  # DRAGAN: times the standard deviation of the pixels
_RATE = 0.01  # of running means: a decay of 0.99, as in the papers
_TINY = 1e-12  # added under a root, whose slope at 0 is infinite


@dataclass(frozen=True)
class CriticTurn:
    """The tensors of one update of the discriminator.

    Attributes:
        critic: The discriminator; see ``Critic``.
        real: Training images (B, C, H, W); a leaf of the graph if a penalty of this step has it in
            ``leaves``.
        fake: As many generated images, without the generator's graph; a leaf likewise.
        real_logits: critic(real, labels), (B,), with graph.
        fake_logits: critic(fake, labels), (B,), with graph.
        draw: Randomness of the step.
        labels: Classes of real and of generated images, as the critic takes them, or None.
        reconstruct: Function (images, quadrants) -> pairs of (decoded, target), of a discriminator
            with decoders, or None.
    """

    critic: Critic
    real: torch.Tensor
    fake: torch.Tensor
    real_logits: torch.Tensor
    fake_logits: torch.Tensor
    draw: Draw
    labels: torch.Tensor | None = None
    reconstruct: Callable[[torch.Tensor, torch.Tensor], Decoded] | None = None


@dataclass(frozen=True)
class GeneratorTurn:
    """The tensors of one update of the generator.

    Attributes:
        latents: What the images are made from: z (B, L), or w (B, L) or (B, layers, L) with styles;
            a leaf, or at least with a graph to ``images``.
        images: G(latents), with graph.
        draw: Randomness of the step.
    """

    latents: torch.Tensor
    images: torch.Tensor
    draw: Draw


class Penalty(nn.Module):
    """Base of all penalties: tensors of an update -> values per image (B,), float32 or wider.

    Attributes:
        leaves: Which tensors must be leaves of the graph: ``real``, ``fake``, ``latents``.
        of_generator: Whether it is added to the generator's loss; else to the discriminator's.
        weight: The published weight.
        every: The published interval in steps.
        of_slope: Whether it is a squared slope, whose right weight depends on the distances between
            images (``penalty_weight``).
    """

    of_slope: ClassVar[bool] = False
    leaves: ClassVar[frozenset[str]] = frozenset()
    of_generator: ClassVar[bool] = False
    weight: ClassVar[float] = 1.0
    every: ClassVar[int] = 1


class R1(Penalty):
    """||grad_x a(x)||^2 / 2 on real images; its weight is gamma.

    Mescheder et al. 2018 (arXiv:1801.04406), Eq. 9.
    """

    leaves = frozenset({"real"})
    of_slope = True

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return half the squared gradient norms."""
        return squared_slope(turn.real_logits, turn.real) / 2


class R2(Penalty):
    """||grad_x a(G(z))||^2 / 2 on generated images; its weight is gamma.

    Mescheder et al. 2018 (arXiv:1801.04406), Eq. 10.
    """

    leaves = frozenset({"fake"})
    of_slope = True

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return half the squared gradient norms."""
        return squared_slope(turn.fake_logits, turn.fake) / 2


def _distance_to_slope_one(
    critic: Critic, points: torch.Tensor, labels: torch.Tensor | None
) -> torch.Tensor:
    """Return (||grad a(points)|| - 1)^2 per image, (B,)."""
    leaf = points.detach().requires_grad_(True)
    slope = (squared_slope(critic(leaf, labels), leaf) + _TINY).sqrt()
    return (slope - 1).square()


class GradientPenalty(Penalty):
    """(||grad a(x')|| - 1)^2 at x' = e x + (1 - e) G(z), e uniform per image.

    Gulrajani et al. 2017 (arXiv:1704.00028), Eq. 3. The points x' have the labels of the batch.
    """

    weight = 10.0

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return the squared differences of the gradient norm from 1."""
        share = turn.draw.uniform("wgan-gp", 1, 1, 1).to(turn.real.dtype)
        between = share * turn.real.detach() + (1 - share) * turn.fake.detach()
        return _distance_to_slope_one(turn.critic, between, turn.labels)


class Dragan(Penalty):
    """(||grad a(x + d)|| - 1)^2 around real images, d ~ N(0, s^2 I).

    Kodali et al. 2017 (arXiv:1705.07215), section 2.3. s is half the standard deviation of the
    pixels, per image, so that a value does not depend on the batch.
    """

    weight = 10.0

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return the squared differences of the gradient norm from 1."""
        real = turn.real.detach()
        noise = turn.draw.normal("dragan", *real.shape[1:]).to(real.dtype)
        spread = _SPREAD * real.flatten(1).std(dim=1, correction=0)[:, None, None, None]
        return _distance_to_slope_one(turn.critic, real + spread * noise, turn.labels)


class _RunningMean(nn.Module):
    """The plain mean of the first 100 updates, then an exponential mean with rate 0.01.

    Attributes:
        value: The mean, a scalar.
        steps: Number of updates, int64, a scalar.
    """

    value: torch.Tensor
    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, values: torch.Tensor) -> torch.Tensor:
        """Add the mean of values (B,); return the new running mean, a detached scalar."""
        self.steps += 1
        rate = (1 / self.steps).clamp_min(_RATE)
        self.value.lerp_(batch_mean(values.detach()).to(self.value.dtype), rate)
        return self.value.clone()


class LeCam(Penalty):
    """(a(x) - m_fake)^2 + (a(G(z)) - m_real)^2, with running means m of the logits.

    Tseng et al. 2021 (arXiv:2104.03310), the regulariser R_LC, for few images. The means include
    the present step.
    """

    weight = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.real_mean = _RunningMean()
        self.fake_mean = _RunningMean()

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return the sums of both squared differences."""
        real_mean = self.real_mean.update(turn.real_logits)
        fake_mean = self.fake_mean.update(turn.fake_logits)
        far = (turn.real_logits - fake_mean).square()
        return far + (turn.fake_logits - real_mean).square()


class Consistency(Penalty):
    """(a(x) - a(T x))^2 + (a(G(z)) - a(T G(z)))^2, with a random translation and cutout T.

    Balanced consistency, Zhao et al. 2020 (arXiv:2002.04724), Algorithm 1, with both weights equal;
    the paper's T also mirrors, which is left out here. If the discriminator sees augmented images,
    both sides get the same augmentation, so that only T differs.
    """

    weight = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.augment = open_augmentation("translation+cutout")

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return the sums of both squared differences."""
        total = torch.zeros_like(turn.real_logits)
        for name, images, logits in (
            ("real", turn.real, turn.real_logits),
            ("fake", turn.fake, turn.fake_logits),
        ):
            numbers = turn.draw.uniform(f"bcr/{name}", self.augment.size)
            changed = turn.critic(self.augment(images.detach(), numbers), turn.labels, name)
            total = total + (logits - changed).square()
        return total


class Reconstruction(Penalty):
    """Mean absolute error of the discriminator's decoders on real images.

    Liu et al. 2021 (arXiv:2101.04775), L_recons of section 3.2, with the absolute error instead of
    a perceptual distance, which needs a pretrained network. Only for a discriminator with decoders.
    """

    def forward(self, turn: CriticTurn) -> torch.Tensor:
        """Return the errors, summed over the decoders.

        Raises:
            ValueError: the discriminator has no decoders.
        """
        if turn.reconstruct is None:
            raise ValueError("penalty 'reconstruction' needs a discriminator with decoders (fast)")
        quadrants = (4 * turn.draw.uniform("reconstruction", 1)).long().squeeze(1)
        pairs = turn.reconstruct(turn.real.detach(), quadrants)
        errors = [(a.float() - b.float()).abs().flatten(1).mean(dim=1) for a, b in pairs]
        return torch.stack(errors).sum(dim=0)


class PathLength(Penalty):
    """(||J_w^T y|| - a)^2, y ~ N(0, I) / sqrt(H W), with the running mean a of the norm.

    Karras et al. 2020 (arXiv:1912.04958), Eq. 4. With one w per layer the squared norm is the mean
    over layers.
    """

    leaves = frozenset({"latents"})
    of_generator = True
    weight = 2.0
    every = 4

    def __init__(self) -> None:
        super().__init__()
        self.length = _RunningMean()

    def forward(self, turn: GeneratorTurn) -> torch.Tensor:
        """Return the squared differences of the norm from its running mean."""
        images, latents = turn.images, turn.latents
        noise = turn.draw.normal("path-length", *images.shape[1:]).to(images.dtype)
        along = (images * noise).flatten(1).sum(dim=1) / (images.shape[2] * images.shape[3]) ** 0.5
        layers = 1 if latents.ndim == 2 else latents.shape[1]
        lengths = (squared_slope(along, latents) / layers + _TINY).sqrt()
        return (lengths - self.length.update(lengths)).square()


_HERE = "gentool.models.gan.penalties"

PENALTIES: Registry[type[Penalty]] = Registry(
    "penalty",
    "gentool list penalties",
    {
        "r1": Entry("squared gradient on real images (Mescheder 2018)", at(_HERE, "R1")),
        "r2": Entry("squared gradient on generated images (Mescheder 2018)", at(_HERE, "R2")),
        "wgan-gp": Entry(
            "gradient norm 1 between real and generated images (Gulrajani 2017)",
            at(_HERE, "GradientPenalty"),
        ),
        "dragan": Entry("gradient norm 1 around real images (Kodali 2017)", at(_HERE, "Dragan")),
        "path-length": Entry(
            "equal steps in w give equal steps in the image (Karras 2020)", at(_HERE, "PathLength")
        ),
        "lecam": Entry(
            "logits near the running mean of the other images (Tseng 2021)", at(_HERE, "LeCam")
        ),
        "bcr": Entry(
            "equal logits before and after augmentation (Zhao 2020)", at(_HERE, "Consistency")
        ),
        "reconstruction": Entry(
            "decoders reconstruct real images from features (FastGAN, Liu 2021)",
            at(_HERE, "Reconstruction"),
        ),
    },
)
