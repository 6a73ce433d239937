"""The table of models by name. A new model needs its own file and a row in this table.

Importing this package does not import torch: a model's file is imported when it is requested.
"""

from typing import TYPE_CHECKING

from gentool.core.registry import Entry, Registry, at

if TYPE_CHECKING:
    from gentool.models.base import Model

MODELS: "Registry[type[Model]]" = Registry(
    "model",
    "gentool list",
    {
        "gan": Entry(
            "generator trained against a discriminator; the sharpest samples",
            at("gentool.models.gan.model", "GAN"),
        ),
        "vae": Entry(
            "variational autoencoder: learns p(x); reconstructs, samples, interpolates",
            at("gentool.models.vae.model", "VAE"),
        ),
        "vae-gan": Entry(
            "variational autoencoder with a discriminator, for sharper images",
            at("gentool.models.vae.vaegan", "VAEGAN"),
        ),
        "hvae": Entry(
            "hierarchical VAE: latents on grids of all sizes; the best likelihood",
            at("gentool.models.vae.vdvae", "HierarchicalVAE"),
        ),
        "autoencoder": Entry(
            "autoencoder with a bottleneck; the most faithful reconstructions",
            at("gentool.models.vae.autoencoder", "Autoencoder"),
        ),
        "fsq": Entry(
            "quantised autoencoder and a transformer over its codes; sharp, with an encoder",
            at("gentool.models.quantised.model", "QuantisedAutoencoder"),
        ),
    },
)
