"""The generator as the game and the verbs see it, whatever its network: latents, classes, styles.

Where the network has a mapping (``networks/style``), z is mapped to styles w, one per layer
(Karras et al. 2019, arXiv:1812.04948); the others take z itself.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from gentool.core.errors import NoStyles
from gentool.core.rng import Draw, normal

_MIXING = 0.9  # share of images made of two styles while training (Karras et al. 2019, table 2)
_MEAN_DRAWS, _FEWEST_DRAWS = 4096, 256  # of w for its mean: in all, and for each class


class Generator(nn.Module):
    """z (B, L), followed by the shares of C classes, -> images (B, C, H, W) in (-1, 1).

    Args:
        net: The network, unbounded.
        latent_size: L.
        classes: C.
    """

    class_shares: torch.Tensor

    def __init__(self, net: nn.Module, latent_size: int, classes: int) -> None:
        super().__init__()
        self.net, self.latent_size, self.classes = net, latent_size, classes
        self.styled = hasattr(net, "mapping")
        if classes:
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of latents (B, L + classes)."""
        return torch.tanh(self.net(*self._parts(latents)).float())

    def styles(self, latents: torch.Tensor, truncation: float = 1.0) -> torch.Tensor:
        """One w per layer, (B, layers, L), all the same, of latents (B, L + classes).

        Raises:
            NoStyles: the network has no mapping.
        """
        net = self.styled_net()
        z, kinds = self._parts(latents)
        w = net.mapping(z, kinds)
        if truncation != 1:
            w = net.truncate(w, truncation, kinds)
        return w[:, None].expand(-1, net.layers, -1)  # type: ignore[no-any-return]

    def synthesise(self, styles: torch.Tensor) -> torch.Tensor:
        """Images of styles (B, layers, L)."""
        return torch.tanh(self.styled_net().synthesis(styles).float())

    def styled_net(self) -> Any:
        """The network, whose images come from styles.

        Raises:
            NoStyles: they do not.
        """
        if not self.styled:
            raise NoStyles("this model has no styles; models with -o network=style have")
        return self.net

    def measure_mean(self) -> None:
        """The mean of w for the weights as they are now; always over the same z.

        Raises:
            NoStyles: the network has no mapping.
        """
        count = max(_MEAN_DRAWS // max(self.classes, 1), _FEWEST_DRAWS)
        z = torch.from_numpy(normal(0, "mean-w", np.arange(count), self.latent_size))
        net = self.styled_net()
        net.measure_mean(z.to(net.mean_w.device))

    def first_weights(self) -> torch.Tensor:
        """A (F, L) of the layers y = A x + b that take w in, where there is one, else z."""
        if self.styled:
            return self.styled_net().style_weights()  # type: ignore[no-any-return]
        first = next(m for m in self.net.modules() if isinstance(m, nn.Linear))
        return first.weight[:, : self.latent_size]

    def _parts(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents z and shares of the classes."""
        size = self.latent_size
        return latents[:, :size], latents[:, size:] if self.classes else None

    def play(self, draw: Draw, kinds: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the images are made of (z, or w where there is one), and the images.

        With styles: fresh noise, and mostly two of them mixed (Karras et al. 2019,
        arXiv:1812.04948, section 3.1).
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
