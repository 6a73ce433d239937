"""Shared parts of the networks: channels per grid, conditioning on classes, initial weights.

A generator gets the class as a learned vector that is concatenated with z, a discriminator as the
projection of Miyato and Koyama 2018 (arXiv:1802.05637).
"""

import torch
from torch import nn

# Factor of the class vector beside z. With factor 1, a few very different classes dominate z: on
# cartoon faces in four styles, the generator drew one face per style.
CLASS_SCALE = 0.2
_MIN_CHANNELS = 8  # on the finest grids, unless the width is smaller


def tapering(width: int, levels: int, flat: int = 4) -> list[int]:
    """Return channels per grid, coarsest first: ``width`` on ``flat`` grids, then half on each.

    With the base grid at 4x4 and ``flat=4`` these are the widths of StyleGAN2 and R3GAN: the
    full width up to 32x32, half of it at 64x64, a quarter at 128x128.
    """
    floor = min(width, _MIN_CHANNELS)
    return [max(width >> max(k + 1 - flat, 0), floor) for k in range(levels)]


@torch.no_grad()
def fill_normal(tensor: torch.Tensor, std: float = 1.0) -> torch.Tensor:
    """Fill a tensor with N(0, std^2) in place and return it; do nothing on the meta device.

    On the meta device ``normal_`` would import sympy, which delays every command that opens a
    model.
    """
    return tensor if tensor.is_meta else tensor.normal_(0.0, std)


class ClassVectors(nn.Embedding):
    """One learned vector per class; a mixture of classes has the weighted sum of their vectors."""

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Return vectors (B, size) of labels int64 (B,), or of class weights (B, classes)."""
        return labels @ self.weight if labels.ndim == 2 else super().forward(labels)


def class_vectors(classes: int, size: int, std: float = 1.0) -> ClassVectors:
    """Return class vectors (classes, size), initialised with N(0, std^2)."""
    weight = fill_normal(torch.empty(classes, size), std)
    return ClassVectors(classes, size, _weight=weight)


def check_labels(labels: torch.Tensor | None, classes: int) -> torch.Tensor:
    """Return the labels that were given to a network with classes.

    Raises:
        ValueError: ``labels`` is None.
    """
    if labels is None:
        raise ValueError(f"a network with {classes} classes needs labels, int64 of shape (B,)")
    return labels


class ClassInput(nn.Module):
    """Latents (B, L) and labels -> input of the generator, (B, 2 L) with classes, else (B, L).

    Args:
        latent_size: L, also the length of a class vector.
        classes: Number of classes; with 0 the latents are returned unchanged.

    Attributes:
        size: Length of the input, 2 L or L.
    """

    def __init__(self, latent_size: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.size = latent_size * (2 if classes else 1)
        if classes:
            self.vectors = class_vectors(classes, latent_size)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return z (B, L), concatenated with the scaled class vectors (B, L) if there are some."""
        if not self.classes:
            return latents
        vectors = self.vectors(check_labels(labels, self.classes))
        return torch.cat([latents, CLASS_SCALE * vectors.to(latents.dtype)], dim=1)


class ProjectionHead(nn.Module):
    """Features (B, F) and labels -> logits (B,): a(x, y) = w^T f(x) + b + v_y^T f(x).

    Miyato and Koyama 2018 (arXiv:1802.05637), Eq. 3 with a linear psi; v_y starts as N(0, 1/F).
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(features, 1)
        if classes:
            self.vectors = class_vectors(classes, features, features**-0.5)

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return logits (B,), float32."""
        logits = self.linear(features).squeeze(1).float()
        if not self.classes:
            return logits  # type: ignore[no-any-return]
        vectors = self.vectors(check_labels(labels, self.classes))
        return logits + (vectors * features).float().sum(dim=1)  # type: ignore[no-any-return]
