"""An autoencoder with quantised latents, and a transformer that learns its codes.

A run has two spans (van den Oord et al. 2017, arXiv:1711.00937; Esser et al. 2021,
arXiv:2012.09841). First, encoder, quantiser and decoder learn to reconstruct images: by their
pixels, by the features of a discriminator, and later against this discriminator
(``reconstruction_critic``). Then these are frozen, and a transformer learns the codes of the
training images. ``sample`` draws codes from it, of any class or of one, and decodes them.

Latents are the vectors of an image's codes (B, L, h, w), flattened. Points between two codes, as
``interpolate`` makes them, are decoded without rounding to a code.

``gentool train fsq --data FOLDER`` trains this model, ``vqvae`` one with a learned codebook.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.core.rng import Draw, uniform
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.capabilities import Advice, DiscreteCodes
from gentool.models.classes import class_shares
from gentool.models.priors import draw_uniform
from gentool.models.quantised.code_prior import CodePrior, Drawing
from gentool.models.quantisers import QUANTISERS
from gentool.models.quantisers.base import Quantised, Quantiser, perplexity
from gentool.models.vae.reconstruction_critic import TailConfig
from gentool.networks.grids import GridDecoder, GridEncoder, grids

_CODES_DECAY, _CRITIC_DECAY, _PRIOR_DECAY = 0.01, 0.1, 0.01
_BEGIN_IMAGES = 256  # training images that initialise a codebook
_OBSERVED = 1024  # training images whose codes are counted when a model is finished
_LARGE = 96  # images of this geometric mean of the sides, or more, have more codes
_SIDES = 8, 16  # of the grid of codes, for smaller and for larger images
_LATE = 0.2  # fraction of the run before which a collapse is not reported
_COLLAPSED = 0.03  # of the codes that could occur in a batch; fewer are a collapse


class Codec(nn.Module):
    """Encoder, quantiser and decoder.

    Args:
        shape: Shape of the images.
        width: Width of encoder and decoder.
        quantiser: The quantiser.
        side: Approximate number of rows and columns of the grid.
    """

    def __init__(self, shape: ImageShape, width: int, quantiser: Quantiser, side: int) -> None:
        super().__init__()
        self.encoder = GridEncoder(shape, width, quantiser.size, side)
        self.quantiser = quantiser
        self.decoder = GridDecoder(shape, width, quantiser.size, shape.channels, side)

    def encode(self, images: torch.Tensor) -> Quantised:
        """Return the quantised grid of images (B, C, H, W)."""
        return self.quantiser(self.encoder(images))  # type: ignore[no-any-return]

    def decode(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, H, W), float32, not clamped, of code vectors (B, L, h, w)."""
        return self.decoder(vectors).float()  # type: ignore[no-any-return]


class CodesInUse(DiscreteCodes):
    """The codes that a codec makes of images."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def frequencies(self, images: torch.Tensor) -> torch.Tensor:
        """Return the relative frequency of each code in images (B, C, H, W), shape (codes,)."""
        return self._codec.quantiser.shares(self._codec.encode(images).indices)


class CodesAdvice(Advice):
    """Advice on the codes.

    Args:
        quantiser: Name of the quantiser.
    """

    def __init__(self, quantiser: str) -> None:
        self._quantiser = quantiser

    def health(self, record: Mapping[str, float]) -> str | None:
        """Report collapsed codes."""
        usage = record.get("code_usage", 1.0)
        if record["share"] < _LATE or usage >= _COLLAPSED:
            return None
        other = "" if self._quantiser == "fsq" else " or -o quantiser=fsq"
        return (
            f"the codes have collapsed: the images use only {usage:.1%} of them, so samples will "
            f"have no variety. Use a smaller --lr or fewer -o codes{other}"
        )


@dataclass(frozen=True)
class QuantisedConfig(TailConfig, BaseConfig):
    """Options of ``fsq`` and ``vqvae``."""

    width: int = option(
        64, "channels at half the image size; scales all networks", low=1, high=1024
    )
    quantiser: str = option("fsq", "how vectors are quantised to codes", choices=QUANTISERS)
    codes: int = option(1024, "number of codes (fsq: approximately)", low=4, high=65536)
    latent_size: int = option(4, "length of the vector of a code", low=1, high=1024)
    grid: int = option(
        0, "approximate rows and columns of codes per image (0: 8, or 16 for large images)",
        low=0, high=64,
    )  # fmt: skip
    prior_share: float = option(
        0.4, "last fraction of the run, which trains the transformer", low=0.01, high=0.99
    )
    layers: int = option(6, "layers of the transformer", low=1, high=64)
    prior_factor: int = option(
        4, "width of the transformer, as a multiple of width", low=1, high=64
    )
    corruption: float = option(
        0.05,
        "fraction of past codes that are replaced when the transformer trains",
        low=0,
        high=0.9,
    )


class QuantisedAutoencoder(Model[QuantisedConfig, Drawing]):
    """Codec and transformer; the discriminator is not part of the model file.

    Attributes:
        size: Rows and columns of the grid of codes.
        tally: Statistics of a step for a learned codebook; None without one.
    """

    exported = ("codec", "transformer")
    interpolation = "lerp"
    classes_in_latents = False
    Drawing = Drawing

    Config = QuantisedConfig

    def __init__(self, config: QuantisedConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        quantiser = QUANTISERS.get(config.quantiser)(config.codes, config.latent_size)
        side = config.grid or _SIDES[shape.height * shape.width >= _LARGE**2]
        self.codec = Codec(shape, config.width, quantiser, side)
        self.size = grids(shape, side)[-1]
        self.transformer = CodePrior(
            quantiser.words, self.size[0] * self.size[1], config.prior_factor * config.width,
            config.layers, classes,
        )  # fmt: skip
        self.tail = config.open_tail(shape, config.width)
        self.tally = quantiser.open_tally()

    def prior(
        self, indices: NDArray[np.int64], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw codes from the transformer; return their vectors (B, latents)."""
        if labels is None:
            labels = self.transformer.draw_labels(draw_uniform(indices, seed, self.device))
        elif not self.classes:
            labels = None
        length = self.size[0] * self.size[1]
        numbers = torch.from_numpy(uniform(seed, "prior/codes", indices, length))
        codes = self.transformer.draw(numbers.to(self.device, torch.float32), labels, self.drawing)
        return self.codec.quantiser.embed(codes.view(-1, *self.size)).flatten(1)

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return images in [-1, 1] of code vectors (B, latents), or of points between them."""
        size = self.codec.quantiser.size
        return self.codec.decode(latents.view(-1, size, *self.size)).clamp(-1, 1)

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (B, latents) of the codes of images."""
        return self.codec.encode(images).vectors.flatten(1)

    @property
    def codes(self) -> CodesInUse:
        """The discrete codes that the codec makes of images."""
        return CodesInUse(self.codec)

    @property
    def advice(self) -> CodesAdvice:
        """The advice for a run whose codes have collapsed."""
        return CodesAdvice(self.config.quantiser)

    @torch.no_grad()
    def begin(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Initialise a learned codebook from encoded training images."""
        if self.tally is None:
            return
        grids: list[torch.Tensor] = []
        for batch in batches():  # of any size
            grids.append(self.codec.encoder(batch.images))
            if sum(map(len, grids)) >= _BEGIN_IMAGES:
                break
        self.codec.quantiser.begin(torch.cat(grids))

    @property
    def _switch(self) -> float:
        """Fraction of the run after which the transformer learns."""
        return 1.0 - float(self.config.prior_share)

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of codec and discriminator, then that of the transformer."""
        first, second = (0.0, self._switch), (self._switch, 1.0)
        critic = self.tail.discriminator
        return (
            Phase("codes", self.codec, self._codes_loss, span=first, decay=_CODES_DECAY),
            Phase(
                "discriminator", critic, self._critic_loss,
                span=first, betas=(0.0, 0.99), decay=_CRITIC_DECAY,
            ),
            Phase("prior", self.transformer, self._prior_loss, span=second, decay=_PRIOR_DECAY),
        )  # fmt: skip

    def _codes_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return mean |x - x^|, the discriminator's terms and the quantiser's loss, per image."""
        grid = self.codec.encoder(batch.images)
        quantiser = self.codec.quantiser
        if self.tally is not None and self.training:
            quantiser.learn(grid.detach(), draw, self.tally)
        quantised: Quantised = quantiser(grid)
        output = self.codec.decode(quantised.vectors)
        error = (output - batch.images).abs().mean(dim=(1, 2, 3))
        more = self.tail.sharpen(batch.images, output, error, draw.share / self._switch)
        parts = {"l1": error, **more.parts, **self._use(quantised.indices, draw)}
        return LossTerms(error + more.total + quantised.loss, parts)

    def _use(self, indices: torch.Tensor, draw: Draw) -> dict[str, torch.Tensor]:
        """Return the perplexity of the batch's codes, and the fraction used of the possible codes.

        The number of possible codes is at most that of the places in different images of the batch;
        an image that occurs twice counts once.
        """
        shares = self.codec.quantiser.shares(indices)
        possible = min(len(shares), len(np.unique(draw.indices)) * indices[0].numel())
        parts = {
            "perplexity": perplexity(shares),
            "code_usage": (shares > 0).sum() / possible,
        }
        return {name: value.expand(len(indices)) for name, value in parts.items()}

    def _critic_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        with torch.no_grad():
            output = self.codec.decode(self.codec.encode(batch.images).vectors)
        return self.tail.critic_loss(batch.images, output, draw)

    def _prior_loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return -log p(codes) per image in nats, with some earlier codes replaced by random ones.

        So the transformer learns to continue sequences that occur in no image, which it will have
        to do after codes that it drew itself.
        """
        with torch.no_grad():
            codes = self.codec.encode(batch.images).indices.flatten(1)
        words, length = self.codec.quantiser.words, codes.shape[1]
        replaced = draw.uniform("corruption", length) < self.config.corruption
        others = (draw.uniform("replacement", length) * words).long()
        labels = batch.labels if self.classes else None
        nll = self.transformer.nll(codes, labels, torch.where(replaced, others, codes))
        self.transformer.trained.fill_(1)
        return LossTerms(nll, {"nats_per_code": nll / length})

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Count the codes and the classes of training images."""
        codes: list[torch.Tensor] = []
        for batch in batches():
            codes.append(self.codec.encode(batch.images).indices)
            if sum(map(len, codes)) >= _OBSERVED:
                break
        self.codec.quantiser.observe(torch.cat(codes))
        if self.classes:
            shares = class_shares(batches(), self.classes, self.device)
            self.transformer.class_shares.copy_(shares)

    def summary(self) -> str:
        """Return one sentence on how samples are made and how the codes are used."""
        health = self.codec.quantiser.health()
        if not self.transformer.trained:
            return f"samples are noise, because the transformer is not trained yet; {health}"
        return f"samples decode codes drawn from a transformer; {health}"
