"""An encoder for a trained generator: it estimates the latents of an image.

After generator and discriminator are trained, the encoder learns from samples of the generator,
whose latents are known, and from training images, through the features of the run's discriminator;
generator and discriminator are frozen. Zhu et al. 2016 (arXiv:1609.03552), section 3.1, train such
an encoder on pixels; the distance in features of the discriminator is from Larsen et al. 2016
(arXiv:1512.09300), Eq. 7.
"""

from collections.abc import Callable

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.metrics.pixels import pixel_distance
from gentool.models.base import LossTerms
from gentool.networks.resnet import ResidualEncoder

_WIDEST = 64  # channels: the encoder only gives the start of a search
_LATENT_WEIGHT, _CLASS_WEIGHT, _FEATURE_WEIGHT = 0.05, 0.02, 0.05  # squared pixels: 1
_TINY = 1e-6

Images = torch.Tensor


class LatentEncoder(nn.Module):
    """Map images (B, C, H, W) in [-1, 1] to latents (B, L + classes): z, then class weights.

    Args:
        shape: Shape of the images.
        width: Channels of the first level; more than 64 count as 64.
        latent_size: L.
        classes: Number of classes; 0 for none.

    Attributes:
        trained: 1 once the encoder has begun to train, else 0; a scalar buffer.
    """

    trained: torch.Tensor

    def __init__(self, shape: ImageShape, width: int, latent_size: int, classes: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.net = ResidualEncoder(shape, min(width, _WIDEST), latent_size + classes)
        self.register_buffer("trained", torch.zeros(()))

    def forward(self, images: Images) -> torch.Tensor:
        """Return latents, float32; the class weights sum to 1."""
        z, logits = self.net(images).float().tensor_split([self.latent_size], dim=1)
        return torch.cat([z, logits.softmax(dim=1)], dim=1)


def feature_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ||a - b||^2 / ||b||^2 per row of (B, F), float32, shape (B,)."""
    a, b = a.float(), b.float()
    return (a - b).square().sum(dim=1) / (b.square().sum(dim=1) + _TINY)


def embedding_loss(
    encoder: LatentEncoder,
    generate: Callable[[torch.Tensor], Images],
    features: Callable[[Images], torch.Tensor],
    images: Images,
    latents: torch.Tensor,
) -> LossTerms:
    """Return the loss of the encoder, one value per pair of a training image and a sample.

    Args:
        encoder: Trained.
        generate: Latents -> images; frozen.
        features: Images -> features (B, F) of the discriminator; frozen.
        images: Training images, (B, C, H, W).
        latents: Latents of the samples, (B, L + classes); their classes are also those of
            ``images``.

    Returns:
        Total (B,) and its parts.
    """
    size = encoder.latent_size
    with torch.no_grad():
        samples = generate(latents)
        wanted = features(images)
    found = encoder(torch.cat([images, samples]))
    again = generate(found)
    here, there = again.chunk(2)
    pixels = pixel_distance(here, images)
    semantic = feature_distance(features(here), wanted)
    samples_pixels = pixel_distance(there, samples)
    z = (found[len(images) :, :size] - latents[:, :size]).square().mean(dim=1)
    total = pixels + samples_pixels + _FEATURE_WEIGHT * semantic + _LATENT_WEIGHT * z
    if found.shape[1] > size:
        shares = latents[:, size:].repeat(2, 1)
        surprise = -(shares * (found[:, size:] + _TINY).log()).sum(dim=1)
        total = total + _CLASS_WEIGHT * surprise.view(2, -1).sum(dim=0)
    parts = {"encoder_pixels": pixels, "encoder_samples": samples_pixels, "encoder_z": z}
    return LossTerms(total, parts)
