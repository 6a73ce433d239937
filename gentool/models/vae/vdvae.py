"""The hierarchical VAE: latents on grids of all sizes, each layer conditional on those above it.

VDVAE (Child 2021, arXiv:2011.10650), with two parts of Efficient-VDVAE (Hazami et al. 2022,
arXiv:2203.13751) that make it stable: Adamax, and no step on a gradient far longer than usual. With
layers z_1 ... z_N from the coarsest grid to the finest, the bound per image is

    ELBO(x) = log p(x|z) - sum_l KL(q(z_l | z_<l, x) || p(z_l | z_<l)).

The latents of this model are the noise eps_l of every layer, z_l = mu_l(z_<l) + sigma_l(z_<l)
eps_l. They are N(0, I) in all layers, so the upper layers can be kept and the others drawn again
(``--keep-top``). ``gentool train hvae --data FOLDER`` trains this model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import option
from gentool.core.rng import Draw
from gentool.models.base import BaseConfig, Batch, LossTerms, Model, Phase
from gentool.models.capabilities import NoiseMap
from gentool.models.classes import class_shares, draw_classes
from gentool.models.likelihoods import (
    DEFAULT_SIGMA,
    LIKELIHOODS,
    choose_likelihood,
    open_likelihood,
    without_scale,
)
from gentool.models.priors import draw_normal, draw_uniform
from gentool.models.vae.advice import LayeredAdvice
from gentool.models.vae.objective import kl_weight
from gentool.models.vae.vdvae_bound import (
    Inference,
    Inferred,
    LayeredBound,
    NoiseLayers,
    kl,
)
from gentool.networks.vdvae import BottomUp, Gaussians, Layer, TopDown, ladder, spread

_NO_CLASS = 0.1  # fraction of training images given without class, to learn p(x) too


def _no_scale(config: "HierarchicalConfig") -> str | None:
    return without_scale(config.likelihood)


def _no_kl(config: "HierarchicalConfig") -> str | None:
    return None if config.beta else "with beta=0 there is no KL. Leave it out"


@dataclass(frozen=True)
class HierarchicalConfig(BaseConfig):
    """Options of ``hvae``."""

    width: int = option(64, "channels on every grid", low=1, high=1024)
    layers: int = option(12, "layers with latents, on all grids together", low=1, high=200)
    latent_size: int = option(8, "latents at each place of the grid of a layer", low=1, high=256)
    likelihood: str = option(
        "auto", "distribution of pixels that the decoder outputs; auto: logistic-mixture, or by "
        "the images",
        choices=LIKELIHOODS, automatic=True,
    )  # fmt: skip
    sigma: float = option(
        DEFAULT_SIGMA,
        "initial sigma, where white is 1",
        low=1e-3,
        high=100,
        idle=_no_scale,
    )
    beta: float = option(1.0, "weight of the KL; 1 is the ELBO", low=0, high=1e4)
    warm_up: float = option(
        0.05, "fraction of the run in which beta rises from 0", low=0, high=1, idle=_no_kl
    )
    skip: float = option(
        10.0, "skip steps with a gradient of more than this multiple of the median (0: never)",
        low=0, high=1e6,
    )  # fmt: skip

    def adapted(self, images: int, pixels: Callable[[], Pixels] | None) -> tuple[Self, list[str]]:
        """Choose the likelihood: Bernoulli for black and white images, else logistic-mixture."""
        if self.likelihood != "auto":
            return self, []
        name, notes = choose_likelihood(pixels, "logistic-mixture")
        return replace(self, likelihood=name), notes


@dataclass(frozen=True)
class HierarchicalDrawing:
    """Options for drawing samples."""

    temperature: float = option(1.0, "factor on the noise of every layer", low=0, high=10)
    keep_top: int = option(
        0, "layers, from the top, that are the same in all images of a seed", low=0, high=200
    )


class HierarchicalVAE(Model[HierarchicalConfig, HierarchicalDrawing]):
    """Encoder, decoder and likelihood."""

    exported = ("encoder", "decoder", "likelihood")

    Config = HierarchicalConfig
    Drawing = HierarchicalDrawing

    def __init__(self, config: HierarchicalConfig, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        if 0 < config.skip < 1:
            raise UsageError(
                f"-o skip={config.skip:g} would skip most steps. Use 1 or more, or 0 to skip none"
            )
        name = "logistic-mixture" if config.likelihood == "auto" else config.likelihood
        self.likelihood = open_likelihood(name, config.sigma)
        grids = ladder(shape)
        if config.layers < len(grids):
            raise UsageError(
                f"with -o layers={config.layers}, the finest of {len(grids)} grids would have no "
                f"latents. Use -o layers={len(grids)} or more"
            )
        sizes = spread(config.layers, grids)
        blocks = [-(-sizes.count(size) // 2) for size in grids]
        self.encoder = BottomUp(shape, config.width, blocks)
        self.decoder = TopDown(
            shape, config.width, config.latent_size, sizes,
            self.likelihood.outputs(shape.channels), classes,
        )  # fmt: skip
        self._lengths = tuple(prod(latents) for latents in self.decoder.latents)

    # --- latents ----------------------------------------------------------------------------

    def prior(
        self, indices: NDArray[np.int64], seed: int, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw noise (B, all latents), followed by one-hot classes where there are classes."""
        noise = draw_normal(indices, seed, sum(self._lengths), self.device)
        if self.drawing.keep_top:
            first = draw_normal(indices[:1] * 0, seed, sum(self._lengths), self.device)
            noise = self.layers.keep_top(first.expand_as(noise), noise, self.drawing.keep_top)
        noise *= self.drawing.temperature
        like = indices * 0 if self.drawing.keep_top else indices  # the class is kept too
        return self._latents_of(noise, draw_uniform(like, seed, self.device), labels)

    def _latents_of(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Return noise and one-hot classes, which uniform numbers choose if there are no labels."""
        if not self.classes:
            return noise
        if labels is None:
            labels = draw_classes(self.decoder.class_shares, uniform)
        return torch.cat([noise, self._kinds(labels)], dim=1)

    @property
    def noise_map(self) -> NoiseMap:
        """How latents, which are the noise of all layers and a class, are drawn from noise."""
        return NoiseMap(sum(self._lengths), self._latents_of)

    @property
    def layers(self) -> NoiseLayers:
        """Layers of the latents."""
        return NoiseLayers(self._lengths)

    @property
    def variational(self) -> LayeredBound:
        """Posterior and bound on log p(x), without a class."""

        def infer(images: torch.Tensor, noise: torch.Tensor | None) -> Inference:
            return self.infer(images, self._told(len(images), None), noise)

        def whitened(found: list[Inferred]) -> torch.Tensor:
            return self._whitened(found, self._told(len(found[0].z), None))

        return LayeredBound(infer, whitened, self.likelihood, sum(self._lengths), self.shape.dims)

    @property
    def advice(self) -> LayeredAdvice:
        """Advice on skipped steps, posterior collapse and idle layers."""
        return LayeredAdvice(len(self._lengths), self.config.warm_up)

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
        kinds = self._told(images.shape[0], labels)
        return self._whitened(self.infer(images, kinds)[0], kinds)

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

        params = self.decoder(images.shape[0], kinds, choose)
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
        if self.likelihood.discrete:
            parts["bits_per_dim"] = self.variational.bits_per_dim(1.0) * elbo
        return LossTerms(weight * whole - log_likelihood, parts)

    # --- training ---------------------------------------------------------------------------

    def phases(self) -> tuple[Phase, ...]:
        """Return the single phase, which minimises the negative ELBO."""
        skip = float(self.config.skip)
        return (Phase("hvae", self, self._loss, decay=0.1, optimiser="adamax", skip_over=skip),)

    @torch.no_grad()
    def finish(self, batches: Callable[[], Iterator[Batch]]) -> None:
        """Count the classes of training images."""
        if self.classes:
            shares = class_shares(batches(), self.classes, self.device)
            self.decoder.class_shares.copy_(shares)

    def summary(self) -> str:
        """Return one sentence on how samples are made."""
        sizes = [f"{height}x{width}" for _, height, width in self.decoder.latents]
        counts = ", ".join(f"{sizes.count(s)} of {s}" for s in dict.fromkeys(sizes))
        return f"samples decode noise through layers of latents, from the top: {counts}"
