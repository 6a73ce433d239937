"""The generator of a GAN: a network, its latents (z and classes), and its styles if it has any.

A network with a mapping (``networks.stylegan2``) maps z to styles w, one per layer (Karras et al.
2019, arXiv:1812.04948); the other networks take z itself.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from gentool.core.rng import Draw, normal
from gentool.models.capabilities import Styles

_MIXING = 0.9  # fraction of training images made of two styles (Karras et al. 2019, table 2)
_MEAN_DRAWS, _FEWEST_DRAWS = 4096, 256  # of w for its mean: in total; at least, per class


class Generator(nn.Module):
    """Map z (B, L) and class weights (B, classes) to images (B, C, H, W) in (-1, 1).

    Args:
        net: The network, with unbounded output.
        latent_size: L.
        classes: Number of classes; 0 for none.

    Attributes:
        styled: Whether the network has a mapping from z to styles.
        class_shares: Frequencies of the classes in the data, (classes,), where there are classes.
    """

    class_shares: torch.Tensor

    def __init__(self, net: nn.Module, latent_size: int, classes: int) -> None:
        super().__init__()
        self.net, self.latent_size, self.classes = net, latent_size, classes
        self.styled = hasattr(net, "mapping")
        if classes:
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images of latents (B, L + classes), float32."""
        return torch.tanh(self.net(*self._parts(latents)).float())

    def styles(self, latents: torch.Tensor, truncation: float = 1.0) -> torch.Tensor:
        """Return one w per layer, (B, layers, L), all the same, of latents (B, L + classes).

        Args:
            latents: z and class weights.
            truncation: psi in w_mean + psi (w - w_mean).
        """
        net = self.styled_net()
        z, kinds = self._parts(latents)
        w = net.mapping(z, kinds)
        if truncation != 1:
            w = net.truncate(w, truncation, kinds)
        return w[:, None].expand(-1, net.layers, -1)  # type: ignore[no-any-return]

    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Return images of styles (B, layers, L)."""
        return torch.tanh(self.styled_net().synthesis(styles).float())

    def styled_net(self) -> Any:
        """Return the network, which must make images from styles (``styled``)."""
        assert self.styled
        return self.net

    def measure_mean(self) -> None:
        """Measure the mean of w for the present weights, per class, always over the same z."""
        count = max(_MEAN_DRAWS // max(self.classes, 1), _FEWEST_DRAWS)
        z = torch.from_numpy(normal(0, "mean-w", np.arange(count), self.latent_size))
        net = self.styled_net()
        net.measure_mean(z.to(net.mean_w.device))

    def first_weights(self) -> torch.Tensor:
        """Return weights A (F, L) of the layers y = A x + b that take w, or z without styles."""
        if self.styled:
            return self.styled_net().style_weights()  # type: ignore[no-any-return]
        first = next(m for m in self.net.modules() if isinstance(m, nn.Linear))
        return first.weight[:, : self.latent_size]

    def _parts(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Split latents into z (B, L) and class weights (B, classes); None without classes."""
        size = self.latent_size
        return latents[:, :size], latents[:, size:] if self.classes else None

    def play(self, draw: Draw, kinds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents, z (B, L) or w (B, layers, L), and their images, for one update.

        With styles, the network gets fresh noise, and most images mix two styles (Karras et al.
        2019, arXiv:1812.04948, section 3.1).

        Args:
            draw: Randomness of the step.
            kinds: One-hot classes (B, classes), or None.
        """
        z = draw.normal("latents", self.latent_size)
        if not self.styled:
            z.requires_grad_(torch.is_grad_enabled())
            return z, torch.tanh(self.net(z, kinds).float())
        net = cast("Any", self.net)
        other = net.mapping(draw.normal("mixing", self.latent_size), kinds)
        chance, place = draw.uniform("crossover", 2).unbind(1)
        crossover = 1 + (place * (net.layers - 1)).long()
        crossover = torch.where(chance < _MIXING, crossover, net.layers)
        w = net.mix(net.mapping(z, kinds), other, crossover)
        return w, torch.tanh(net.synthesis(w, draw.normal).float())


class GeneratorStyles(Styles):
    """The styles w of a generator with a mapping.

    Args:
        generator: The generator.
        truncation: psi of samples: w becomes w_mean + psi (w - w_mean) (Karras et al. 2019,
            arXiv:1812.04948, appendix B).
    """

    def __init__(self, generator: Generator, truncation: float) -> None:
        self._generator = generator
        self._truncation = truncation
        self.needed = truncation != 1

    def of(self, latents: torch.Tensor, *, drawn: bool = False) -> torch.Tensor:
        """Return w for every layer, (B, layers, L), the same for all; if ``drawn``, truncated."""
        return self._generator.styles(latents, self._truncation if drawn else 1.0)

    def centre(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the mean of w, of the class of each of the latents, for every layer."""
        return self._generator.styles(latents, 0.0)

    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Return images of styles (B, layers, L), one w per layer."""
        return self._generator.synthesise(styles)
