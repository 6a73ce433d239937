"""Options of models that may have dense layers instead of convolutions."""

from dataclasses import dataclass

from torch import nn

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.options import option
from gentool.models.base import BaseConfig
from gentool.networks.perceptron import ACTIVATIONS, dense_decoder, dense_encoder


@dataclass(frozen=True)
class DenseConfig(BaseConfig):
    """Options of the dense layers; ``hidden`` > 0 switches them on."""

    hidden: int = option(
        0, "width of dense layers, with a vector of latents (0: convolutions)",
        low=0, high=65536,
    )  # fmt: skip
    dense_layers: int = option(1, "dense layers in encoder and in decoder (hidden)", low=1, high=16)
    activation: str = option(
        "relu", "activation after each dense layer (hidden)", choices=tuple(ACTIVATIONS)
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

    def refuse_dense(self) -> None:
        """Check that no options of dense layers are given where there are none.

        Raises:
            UsageError: one is given.
        """
        for name in ("dense_layers", "activation"):
            if getattr(self, name) != getattr(DenseConfig, name):
                raise UsageError(
                    f"-o {name} needs dense layers. Use -o hidden=200, or leave -o {name} out"
                )
