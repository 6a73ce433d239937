"""The hierarchical VAE: latents on grids of all sizes, each layer conditional on those above it.

VDVAE (Child 2021, arXiv:2011.10650), with two parts of Efficient-VDVAE (Hazami et al. 2022,
arXiv:2203.13751) that make it stable: Adamax, and no step on a gradient far longer than usual. With
layers z_1 ... z_N from the coarsest grid to the finest, the bound per image is

    ELBO(x) = log p(x|z) - sum_l KL(q(z_l | z_<l, x) || p(z_l | z_<l)).

The latents of this model are the noise eps_l of every layer, z_l = mu_l(z_<l) + sigma_l(z_<l)
eps_l. They are N(0, I) in all layers, so the upper layers can be kept and the others drawn again
(``--keep-top``). ``gentool train hvae --data FOLDER`` trains this model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.classes import class_shares, draw_classes
from gentool.models.likelihoods import (
    DEFAULT_SIGMA,
    LIKELIHOODS,
    chosen,
    open_likelihood,
)
from gentool.models.priors import draw_normal, draw_uniform
from gentool.models.vae.elbo import importance_bound, kl_weight
from gentool.networks.vdvae import BottomUp, Gaussians, Layer, TopDown, ladder, spread

_NO_CLASS = 0.1  # fraction of training images given without class, to learn p(x) too
_LATE, _IDLE_NATS = 0.2, 0.1  # after this fraction of the run, a smaller KL is a collapse
_IDLE_LAYER_NATS = 0.01  # a layer with a smaller KL per image is idle
_STORM = 0.2  # fraction of skipped steps above which they are reported


class Inferred(NamedTuple):
    """One layer given images: p(z|above), q(z|above, x), and z (B, L, h, w)."""

    prior: Gaussians
    posterior: Gaussians
    z: torch.Tensor


class HierarchicalVAE(Model):
    """Encoder, decoder and likelihood."""

    exported = ("encoder", "decoder", "likelihood")
    takes_classes = True
    has_posterior = True
    has_layers = True

    @dataclass(frozen=True)
    class Config(BaseConfig):
        """Options of ``hvae``."""

        width: int = option(64, "channels on every grid", low=1, high=1024)
        layers: int = option(12, "with latents, over all grids", low=1, high=200)
        latent_size: int = option(8, "latents per place of a layer's grid", low=1, high=256)
        likelihood: str = option(
            "auto", "what the decoder's output means; auto: logistic-mixture, or by the images",
            choices=LIKELIHOODS, automatic=True,
        )  # fmt: skip
        sigma: float = option(
            DEFAULT_SIGMA, "deviation that a scale begins with; white is 1", low=1e-3, high=100
        )
        beta: float = option(1.0, "weight of the KL; 1 is the ELBO", low=0, high=1e4)
        warm_up: float = option(0.05, "share of the run in which beta rises from 0", low=0, high=1)
        skip: float = option(
            10.0, "leave out steps whose gradient is so many times the median (0: none)",
            low=0, high=1e6,
        )  # fmt: skip

    @dataclass(frozen=True)
    class Drawing:
        """Options for drawing samples."""

        temperature: float = option(1.0, "times the noise of every layer", low=0, high=10)
        keep_top: int = option(
            0, "layers, from the top, that all images of a seed share", low=0, high=200
        )

    def __init__(self, config: Config, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        if 0 < config.skip < 1:
            raise UsageError(
                f"-o skip={config.skip:g} would leave out most steps. Use 1 or more, or 0 for none"
            )
        name = "logistic-mixture" if config.likelihood == "auto" else config.likelihood
        self.likelihood = open_likelihood(name, config.sigma)
        grids = ladder(shape)
        if config.layers < len(grids):
            raise UsageError(
                f"-o layers={config.layers} would leave the finest of {len(grids)} grids without "
                f"latents. Use -o layers={len(grids)} or more"
            )
        sizes = spread(config.layers, grids)
        blocks = [-(-sizes.count(size) // 2) for size in grids]
        self.encoder = BottomUp(shape, config.width, blocks)
        self.decoder = TopDown(
            shape, config.width, config.latent_size, sizes,
            self.likelihood.outputs(shape.channels), classes,
        )  # fmt: skip
        self._lengths = [prod(latents) for latents in self.decoder.latents]

    @classmethod
    def look(cls, config: Config, pixels: Callable[[], Pixels] | None) -> tuple[Config, list[str]]:
        """Choose the likelihood: Bernoulli for black and white images, else logistic-mixture."""
        return chosen(config, pixels, "logistic-mixture")

    # --- latents ----------------------------------------------------------------------------

    def prior(
        self, indices: NDArray[Any], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw noise (B, all latents), followed by one-hot classes where there are classes."""
        noise = draw_normal(indices, seed, sum(self._lengths), self.device)
        if self.drawing.keep_top:
            first = draw_normal(indices[:1] * 0, seed, sum(self._lengths), self.device)
            noise = self.keep_top(first.expand_as(noise), noise, self.drawing.keep_top)
        noise *= self.drawing.temperature
        if not self.classes:
            return noise
        if labels is None:
            like = indices * 0 if self.drawing.keep_top else indices  # the class is kept too
            uniform = draw_uniform(like, seed, self.device)
            labels = draw_classes(self.decoder.class_shares, uniform)
        return torch.cat([noise, self._kinds(labels)], dim=1)

    def keep_top(self, kept: torch.Tensor, drawn: torch.Tensor, layers: int) -> torch.Tensor:
        """Return latents (B, L) with the first layers and class of ``kept``, the rest of ``drawn``.

        Raises:
            UsageError: the model has fewer than ``layers`` layers.
        """
        self.check_layers(layers)
        end, all_latents = sum(self._lengths[:layers]), sum(self._lengths)
        return torch.cat([kept[:, :end], drawn[:, end:all_latents], kept[:, all_latents:]], dim=1)

    def check_layers(self, layers: int) -> None:
        """Check that the model has at least ``layers`` layers.

        Raises:
            UsageError: it has fewer.
        """
        if layers > len(self._lengths):
            raise UsageError(
                f"this model has {len(self._lengths)} layers of latents, and --keep-top wants "
                f"{layers}"
            )

    def decode(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return E[x|z] in [-1, 1], (B, C, H, W)."""
        noise = self._by_layer(latents)

        def choose(k: int, layer: Layer, x: torch.Tensor, expected: Gaussians) -> torch.Tensor:
            return expected.at(noise[k])

        kinds = latents[:, sum(self._lengths) :] if self.classes else None
        return self.likelihood.mean(self.decoder(latents.shape[0], kinds, choose))

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the noise of every layer at its posterior mean, given the means above it.

        Class weights follow the noise, (B, latents + classes). Without labels they are 0, which
        stands for any class.
        """
        kinds = self._told(len(images), labels)
        return self._whitened(self.infer(images, kinds)[0], kinds)

    def encode_drawn(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return the noise of every layer at a draw from its posterior, for any class."""
        kinds = self._told(len(images), None)
        noise = draw.normal("posterior", sum(self._lengths))
        return self._whitened(self.infer(images, kinds, noise)[0], kinds)

    def _whitened(self, found: list[Inferred], kinds: torch.Tensor | None) -> torch.Tensor:
        """Return the noise that gives every layer's z, (B, L), followed by class weights."""
        noise = [layer.prior.noise_of(layer.z).flatten(1) for layer in found]
        return torch.cat(noise if kinds is None else [*noise, kinds], dim=1)

    def _by_layer(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Split rows (B, L) into (B, latents, h, w) per layer, without class weights at the end."""
        all_latents = rows[:, : sum(self._lengths)]
        parts = torch.split_with_sizes(all_latents, self._lengths, dim=1)
        return [
            part.view(-1, *size) for part, size in zip(parts, self.decoder.latents, strict=True)
        ]

    def _kinds(self, labels: torch.Tensor) -> torch.Tensor:
        return one_hot(labels.to(self.device), self.classes).float()

    def _told(self, count: int, labels: torch.Tensor | None) -> torch.Tensor | None:
        """Return class weights: one-hot labels, or 0 without labels; None without classes."""
        if not self.classes:
            return None
        if labels is None:
            return torch.zeros(count, self.classes, device=self.device)
        return self._kinds(labels)

    # --- the bound --------------------------------------------------------------------------

    def infer(
        self, images: torch.Tensor, kinds: torch.Tensor | None,
        noise: torch.Tensor | None = None,
    ) -> tuple[list[Inferred], torch.Tensor]:  # fmt: skip
        """Return all layers given images, and the output of the decoder.

        Args:
            images: (B, C, H, W) in [-1, 1].
            kinds: Class weights (B, classes), or None.
            noise: Noise of the draws from the posteriors, (B, L); None for the posterior means.
        """
        seen, levels = self.encoder(images), self.decoder.levels
        drawn = None if noise is None else self._by_layer(noise)
        found: list[Inferred] = []

        def choose(k: int, layer: Layer, x: torch.Tensor, expected: Gaussians) -> torch.Tensor:
            posterior = layer.posterior(x, seen[levels[k]])
            z = posterior.mean if drawn is None else posterior.at(drawn[k])
            found.append(Inferred(expected, posterior, z))
            return z

        params = self.decoder(len(images), kinds, choose)
        return found, params

    def _loss(self, batch: Batch, draw: Draw) -> LossTerms:
        """Return the negative ELBO in nats per image, with the KL of each layer as parts."""
        images, config = batch.images, self.config
        self.likelihood.watch(images, draw.step)
        kinds = None
        if self.classes:
            assert batch.labels is not None
            told = draw.uniform("class") >= _NO_CLASS
            kinds = self._kinds(batch.labels) * told.view(-1, 1)
        noise = draw.normal("posterior", sum(self._lengths))
        found, params = self.infer(images, kinds, noise)
        log_likelihood = self.likelihood.log_prob(params, images)
        kls = [kl(layer.posterior, layer.prior).sum(dim=1) for layer in found]
        whole = torch.stack(kls).sum(dim=0)
        weight = kl_weight(config.beta, config.warm_up, 0, draw.share)
        elbo = log_likelihood - whole
        parts = {"elbo": elbo, "kl": whole} | {f"kl/{k}": nats for k, nats in enumerate(kls)}
        if self.discrete:
            parts["bits_per_dim"] = self.bits_per_dim(1.0) * elbo
        return LossTerms(weight * whole - log_likelihood, parts)

    def log_prob_bound(self, images: torch.Tensor, draw: Draw, samples: int) -> torch.Tensor:
        """Return the importance-weighted bound in nats, (B,) (Burda et al. 2016, Eq. 8).

        A conditional model gets no class here. It was trained on few such images, so the bound is
        looser than the one it was trained by.

        Raises:
            OutsideSupport: images are outside the support of the likelihood.
        """
        self.likelihood.check(images)
        weights = []
        for k in range(samples):
            noise = draw.normal(f"importance/{k}", sum(self._lengths))
            found, params = self.infer(images, self._told(len(images), None), noise)
            ratios = [log_density(p, z) - log_density(q, z) for p, q, z in found]
            log_ratio = torch.stack(ratios).sum(dim=0)
            weights.append(self.likelihood.log_prob(params, images) + log_ratio)
        return importance_bound(torch.stack(weights))

    def posterior_terms(
        self, images: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise at the posterior means, and KL per latent given the means above, (B, L)."""
        found, _ = self.infer(images, self._told(len(images), None))
        means = torch.cat([p.noise_of(z).flatten(1) for p, _, z in found], dim=1)
        return means, torch.cat([kl(q, p) for p, q, _ in found], dim=1)

    @property
    def layer_lengths(self) -> tuple[int, ...]:
        """Number of latents of every layer, from the top."""
        return tuple(self._lengths)

    @property
    def kl_caveat(self) -> str:
        """How the KL of ``posterior_terms`` differs: it is no mean over draws of layers above."""
        return "of every layer at the posterior means of those above it, not at draws"

    # --- training ---------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        """Return the single phase, which minimises the negative ELBO."""
        skip = float(self.config.skip)
        return (Phase("hvae", self, self._loss, decay=0.1, optimiser="adamax", skip_over=skip),)

    def health(self, record: Mapping[str, float]) -> str | None:
        """Report many skipped steps, posterior collapse, or idle layers."""
        if record.get("skipped_hvae", 0.0) > _STORM:
            return (
                f"a storm of gradients: {record['skipped_hvae']:.0%} of the last steps are left "
                "out, their gradients being far longer than usual. Use a smaller --lr, or a larger "
                "-o skip"
            )
        if record["kl"] < _IDLE_NATS and record["share"] > _LATE:
            return (
                f"posterior collapse: the latents say nothing of the images (KL {record['kl']:.2g} "
                "nats per image). Use a smaller -o beta or -o warm_up=0.3"
            )
        return self._idle_layers(record)

    def _idle_layers(self, record: Mapping[str, float]) -> str | None:
        """Report layers whose KL is almost 0 after the warm-up of the KL."""
        count = len(self._lengths)
        kls = [record.get(f"kl/{k}", _IDLE_NATS) for k in range(count)]
        idle = [str(k + 1) for k, nats in enumerate(kls) if nats < _IDLE_LAYER_NATS]
        if not idle or record["share"] < max(_LATE, self.config.warm_up):
            return None
        return (
            f"idle layers: of {count} layers of latents, from the top, number {', '.join(idle)} "
            "say nothing of the images. Use a larger -o warm_up or a smaller -o beta"
        )

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Count the classes of training images."""
        if self.classes:
            shares = class_shares(batches(), self.classes, self.device)
            self.decoder.class_shares.copy_(shares)

    @property
    def discrete(self) -> bool:
        """Whether the likelihood is a probability mass."""
        return self.likelihood.discrete

    def summary(self) -> str:
        """Return one sentence on how samples are made."""
        sizes = [f"{height}x{width}" for _, height, width in self.decoder.latents]
        counts = ", ".join(f"{sizes.count(s)} of {s}" for s in dict.fromkeys(sizes))
        return f"samples decode noise through layers of latents, from the top: {counts}"


def kl(q: Gaussians, p: Gaussians) -> torch.Tensor:
    """Return KL(q || p) in nats per latent, (B, L), of Gaussians at every place of a grid."""
    ratio = q.log_variance - p.log_variance
    squares = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
    return 0.5 * (ratio.exp() - 1 - ratio + squares).flatten(1)


def log_density(of: Gaussians, z: torch.Tensor) -> torch.Tensor:
    """Return the log-density of z in nats per image, (B,), without the common constant."""
    return -0.5 * (of.noise_of(z).square() + of.log_variance).flatten(1).sum(dim=1)
