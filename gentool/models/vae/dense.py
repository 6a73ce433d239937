"""Options of models that may have dense layers instead of convolutions."""

from dataclasses import dataclass

from torch import nn

from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.models.base import BaseConfig
from gentool.networks.perceptron import ACTIVATIONS, dense_decoder, dense_encoder


def no_dense_layers(config: "DenseConfig") -> str | None:
    """Return why an option of dense layers has no effect."""
    return None if config.hidden else "it is for dense layers. Use -o hidden=200, or leave it out"


def only_dense_layers(config: "DenseConfig") -> str | None:
    """Return why an option of convolutions has no effect."""
    return "-o hidden makes all layers dense. Leave one of the two out" if config.hidden else None


@dataclass(frozen=True)
class DenseConfig(BaseConfig):
    """Options of the dense layers; ``hidden`` > 0 switches them on."""

    width: int = option(
        32, "channels of the widest grid; scales the whole model", low=1, high=1024,
        idle=only_dense_layers,
    )  # fmt: skip
    hidden: int = option(
        0, "width of dense layers, with a vector of latents (0: convolutions)",
        low=0, high=65536,
    )  # fmt: skip
    dense_layers: int = option(
        1, "dense layers in encoder and in decoder (hidden)", low=1, high=16, idle=no_dense_layers
    )
    activation: str = option(
        "relu",
        "activation after each dense layer (hidden)",
        choices=tuple(ACTIVATIONS),
        idle=no_dense_layers,
    )

    def open_dense(
        self, shape: ImageShape, latent_size: int, outputs: int
    ) -> tuple[nn.Module, nn.Module]:
        """Build the encoder and the decoder of dense layers.

        Args:
            shape: Shape of the images.
            latent_size: L; the encoder gives mean and log-variance, (B, 2 L).
            outputs: Channels of the decoder's maps.
        """
        how = self.dense_layers, self.activation
        encoder = dense_encoder(shape, self.hidden, 2 * latent_size, *how)
        return encoder, dense_decoder(shape, self.hidden, latent_size, outputs, *how)
