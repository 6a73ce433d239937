"""The generative adversarial network: a generator that is trained against a discriminator.

Goodfellow et al. 2014 (arXiv:1406.2661): min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]. In every
step the discriminator is updated first, then the generator. Networks, losses, penalties and
augmentations are entries of tables of their own; this file combines them.

``gentool train gan --data FOLDER -o loss=minimax -o penalties=none`` trains by Eq. 1 as printed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from gentool.core.errors import NoEncoder, UsageError
from gentool.core.half_cosine import half_cosine
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.augmentation import AdaptiveProbability, open_augmentation
from gentool.models.base import Batch, LossTerms, Model, Phase
from gentool.models.batchnorm import refresh_statistics
from gentool.models.capabilities import NoiseMap
from gentool.models.classes import class_shares, draw_classes
from gentool.models.directions import semantic
from gentool.models.gan.advice import GANAdvice
from gentool.models.gan.generator import Generator, GeneratorStyles
from gentool.models.gan.latent_encoder import LatentEncoder, embedding_loss
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.options import PLAIN, SLOPES, SPECTRAL, GANConfig, GANDrawing
from gentool.models.gan.penalties import CriticTurn, GeneratorTurn
from gentool.models.gan.penalty_list import Penalties
from gentool.models.gan.penalty_weight import ImageVariance
from gentool.models.priors import draw_normal, draw_uniform
from gentool.networks import PAIRS, Discriminator

_ADA_IMAGES = 100_000  # for p from 0 to 1; the papers' 500,000 are more than a short run has
_DECAY = 0.1  # final over initial learning rate; a low one lets the averages settle

Kinds = torch.Tensor | None  # one-hot classes (B, C)


class GAN(Model[GANConfig, GANDrawing]):
    """Generator, discriminator, and an encoder that is trained last.

    The model file holds generator and encoder, not the discriminator.
    """

    exported: tuple[str, ...] = ("generator", "encoder")
    search_steps = 200

    Config = GANConfig
    Drawing = GANDrawing

    def __init__(self, config: GANConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        pair = PAIRS.get(config.network)
        generator_options: dict[str, Any] = {}
        if config.network == PLAIN:
            generator_options = {"norm": config.norm, "doubling": config.doubling}
        discriminator_options: dict[str, Any] = {}
        if config.network in SPECTRAL:
            discriminator_options["spectral"] = config.spectral
        net = pair.generator(shape, config.width, config.latent_size, classes, **generator_options)
        self.generator = Generator(net, config.latent_size, classes)
        self.discriminator = pair.discriminator(
            shape, config.width, classes, **discriminator_options
        )
        self.encoder: LatentEncoder | None = None
        if config.encoder_share:
            self.encoder = LatentEncoder(shape, config.width, config.latent_size, classes)
        else:
            self.exported = ("generator",)
        self._loss = LOSSES.get(config.loss)
        self.penalties = Penalties(
            config.penalties,
            dict.fromkeys(SLOPES, config.penalty),
            dict.fromkeys(SLOPES, config.penalty_every),
        )
        # Kept apart, since the averaged copy of the model has no penalties.
        self._slopes = {k: w for k, w in self.penalties.weights.items() if k in SLOPES}
        if "reconstruction" in self.penalties.entries and not hasattr(
            self.discriminator, "reconstructions"
        ):
            raise UsageError(
                f"penalty reconstruction needs a discriminator with decoders, which network "
                f"{config.network} does not have. Use -o network=fast"
            )
        self.variance = ImageVariance()
        names = config.augment
        self._augment = None if names in ("none", "auto") else open_augmentation(names)
        adaptive = any(name.startswith("ada") for name in names.split("+"))
        self.adaptive = AdaptiveProbability(_ADA_IMAGES) if adaptive else None

    def prior(
        self, indices: NDArray[np.int64], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw z ~ N(0, I) and one-hot classes, shape (B, latent_size + classes), float32.

        ``drawing.truncation`` psi < 1 scales z to psi z. Networks with styles depend on the
        direction of z only; there ``styles`` moves w towards its mean instead.
        """
        z = draw_normal(indices, seed, self.config.latent_size, self.device)
        if not self.generator.styled:
            z = self.drawing.truncation * z
        return self._latents_of(z, draw_uniform(indices, seed, self.device), labels)

    def _latents_of(
        self, z: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Return z and one-hot classes; uniform numbers (B,) choose them if ``labels`` is None."""
        if not self.classes:
            return z
        if labels is None:
            labels = draw_classes(self.generator.class_shares, uniform)
        return torch.cat([z, self._kinds(labels)], dim=1)

    @property
    def noise_map(self) -> NoiseMap:
        """How latents, which are z and a class, are drawn from noise."""
        return NoiseMap(self.config.latent_size, self._latents_of)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return images G(z), (B, C, H, W) in (-1, 1)."""
        return self.generator(latents)  # type: ignore[no-any-return]

    @property
    def styles(self) -> GeneratorStyles | None:
        """Styles, if the network has a mapping from z to styles."""
        if not self.generator.styled:
            return None
        return GeneratorStyles(self.generator, self.drawing.truncation)

    @property
    def advice(self) -> GANAdvice:
        """Advice on the discriminator and against collapse."""
        return GANAdvice(self._loss, self._slopes)

    def directions(self) -> dict[str, Callable[[int], torch.Tensor]]:
        """Return ``sefa``, the directions that change the output of the first layers most."""
        return {"sefa": partial(semantic, self.generator.first_weights())}

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the encoder's estimate of the latents of images, from which a search can begin.

        Raises:
            NoEncoder: the model has no encoder, or the encoder is not trained yet.
        """
        if self.encoder is None:
            raise NoEncoder("this model was trained without an encoder (-o encoder_share=0)")
        if not self.encoder.trained:
            raise NoEncoder(
                "this file was saved before the encoder was trained, at the end of the run; "
                "model.safetensors of a finished run has an encoder"
            )
        return self.encoder(images)  # type: ignore[no-any-return]

    @property
    def _game_share(self) -> float:
        """Fraction of the run in which generator and discriminator are trained."""
        return 1.0 - float(self.config.encoder_share)

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of discriminator and generator, then that of the encoder."""
        end = self._game_share
        betas = (self.config.beta1, self.config.beta2)
        play = partial(Phase, betas=betas, decay=_DECAY, span=(0.0, end))
        turns = self.config.critic_steps
        game = (
            play("discriminator", self.discriminator, self._critic_loss, repeats=turns),
            play("generator", self.generator, self._generator_loss),
        )
        if self.encoder is None:
            return game
        last = Phase(
            "encoder", self.encoder, self._encoder_loss, span=(end, 1.0), decay=0.01, lr_factor=2.0,
            changes_samples=False,
        )  # fmt: skip
        return (*game, last)

    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Count the classes, and measure the statistics of the averaged weights."""
        if self.classes:
            shares = class_shares(batches(), self.classes, self.device)
            self.generator.class_shares.copy_(shares)
        self.refresh()

    def refresh(self) -> None:
        """Measure batch normalisation statistics and the mean of w, if the generator has them."""
        refresh_statistics(self, self.generator)
        if self.generator.styled:
            self.generator.measure_mean()

    def augmented(self, images: torch.Tensor, draw: Draw, use: str = "real") -> torch.Tensor | None:
        """Return images as the discriminator sees them now; None if unchanged.

        Args:
            images: (B, C, H, W) in [-1, 1].
            draw: Randomness of the step.
            use: Name of the noise: ``real``, ``fake`` or ``other``.
        """
        if self._augment is None:
            return None
        p = 1.0 if self.adaptive is None else self.adaptive.p
        if images.device.type == "cpu" and not p:  # elsewhere, to read p would wait for the device
            return None
        return self._augment(images, draw.uniform(f"augment/{use}", self._augment.size), p)

    def _kinds(self, labels: torch.Tensor) -> torch.Tensor:
        return one_hot(labels.to(self.device), self.classes).float()

    def _conditions(self, batch: Batch) -> torch.Tensor | None:
        """Return one-hot classes of a batch, for its generated images too; None without classes."""
        if not self.classes:
            return None
        assert batch.labels is not None
        return self._kinds(batch.labels)

    def _critic(
        self, images: torch.Tensor, kinds: Kinds, draw: Draw, use: str = "other"
    ) -> torch.Tensor:
        """Return logits (B,) of images, augmented as D sees them; ``use`` names the noise."""
        seen = self.augmented(images, draw, use)
        return self.discriminator(images if seen is None else seen, kinds)  # type: ignore[no-any-return]

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        kinds = self._conditions(batch)
        with torch.no_grad():
            _, fake = self.generator.play(draw, kinds)
        if self.config.calibrate:
            self.variance.update(batch.images)
        leaves = self.penalties.leaves(draw.step)
        real = batch.images.detach().requires_grad_("real" in leaves)
        fake.requires_grad_("fake" in leaves)
        real_logits = self._critic(real, kinds, draw, "real")
        fake_logits = self._critic(fake, kinds, draw, "fake")

        def critic(images: torch.Tensor, labels: Kinds, use: str = "other") -> torch.Tensor:
            return self._critic(images, labels, draw, use)

        reconstruct = getattr(self.discriminator, "reconstructions", None)
        fading = half_cosine(draw.share / self._game_share, floor=self.config.penalty_end)
        scale = self.variance.factor * fading
        more = self.penalties(
            CriticTurn(critic, real, fake, real_logits, fake_logits, draw, kinds, reconstruct),
            scale,
        )
        if self.adaptive is not None:
            self.adaptive.update(draw.step, real_logits, fake_logits)
        loss = self._loss.critic(real_logits, fake_logits)
        parts = {"d_loss": loss, "margin": real_logits - fake_logits, **more.parts}
        parts |= {"logits/real": real_logits, "logits/fake": fake_logits}
        if self._slopes:
            parts["gamma"] = (max(self._slopes.values()) * scale).expand(len(loss))
        if self.adaptive is not None:
            parts["ada_p"] = self.adaptive.p.expand(len(loss))
            parts["ada/overfit"] = self.adaptive.overfit.expand(len(loss))
        return LossTerms(loss + more.total, parts)

    def _generator_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        kinds = self._conditions(batch)
        latents, images = self.generator.play(draw, kinds)
        fake = self._critic(images, kinds, draw, "fake")
        real = fake.detach()
        if self._loss.needs_real:
            with torch.no_grad():
                real = self._critic(batch.images, kinds, draw, "real")
        more = self.penalties(GeneratorTurn(latents, images, draw))
        loss = self._loss.generator(real, fake)
        return LossTerms(loss + more.total, {"g_loss": loss, **more.parts})

    def _encoder_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return the loss of the encoder; generator and discriminator are frozen.

        The generator has its averaged weights by now.
        """
        self.generator.eval()
        self.discriminator.eval()
        z = draw.normal("latents", self.config.latent_size)
        kinds = self._conditions(batch)
        latents = z if kinds is None else torch.cat([z, kinds], dim=1)
        assert self.encoder is not None
        self.encoder.trained.fill_(1)
        features = cast("Discriminator", self.discriminator).features
        return embedding_loss(self.encoder, self.generator, features, batch.images, latents)
