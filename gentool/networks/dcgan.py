"""DCGAN (Radford et al. 2016, arXiv:1511.06434): the networks of ``convnet`` as a pair.

The discriminator has no batch normalisation, so that a gradient penalty per image is well defined;
spectral normalisation is an option. Parameters are named as in ``convnet``: ``net.*`` in the
generator, ``body.*`` and ``head.*`` in the discriminator.
"""

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.convnet import DOUBLINGS, Decoder, Encoder
from gentool.networks.parts import ClassInput, check_labels, class_vectors
from gentool.networks.spectral import add_spectral_norm

# Factor of the projection. There are many features here: with factor 1 the discriminator soon
# recognises every class too well.
PROJECTION_SCALE = 0.1


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels one level below the pixels, doubled on each coarser grid.
        latent_size: L.
        classes: Number of classes; 0 for an unconditional generator.
        norm: ``none``, ``batch`` or ``group``.
        doubling: How grids are doubled: ``repeated``, or ``transposed`` as in the paper.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        latent_size: int,
        classes: int = 0,
        *,
        norm: str = "batch",
        doubling: str = DOUBLINGS[0],
    ) -> None:
        super().__init__()
        self.input = ClassInput(latent_size, classes)
        self.net = Decoder(shape, width, self.input.size, shape.channels, norm, doubling)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return maps (B, C, H, W) of latents (B, L) and labels int64 (B,)."""
        return self.net(self.input(latents, labels))  # type: ignore[no-any-return]


class Discriminator(Encoder):
    """Images (B, C, H, W), labels (B,) -> logits (B,), with a projection if there are classes.

    Args:
        shape: Shape of the images.
        width: Channels of the first level.
        classes: Number of classes; 0 for an unconditional discriminator.
        spectral: Divide all weights by their largest singular value.
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, spectral: bool = False
    ) -> None:
        super().__init__(shape, width, 1)
        self.classes = classes
        if classes:
            features = self.head.in_features
            self.vectors = class_vectors(classes, features, features**-0.5)
        if spectral:
            add_spectral_norm(self)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the coarsest maps, flattened to vectors (B, F)."""
        return self.body(images).flatten(1)  # type: ignore[no-any-return]

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B,), float32."""
        features = self.features(images)
        logits = self.head(features).squeeze(1).float()
        if not self.classes:
            return logits  # type: ignore[no-any-return]
        vectors = self.vectors(check_labels(labels, self.classes))
        return logits + PROJECTION_SCALE * (vectors * features).float().sum(dim=1)  # type: ignore[no-any-return]
