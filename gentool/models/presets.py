"""Presets: named settings as tables of plain data, without torch.

A preset names a model and the settings that work well on each kind of device: first those for a
CPU, then those for a GPU. ``gentool train NAME`` starts from them; flags, environment variables and
the config file override them. This file also holds what replaces these settings for large images
and for few images.
"""

from dataclasses import dataclass

from gentool.core.options import Scalar
from gentool.core.registry import unknown_name


@dataclass(frozen=True)
class Preset:
    """One preset.

    Attributes:
        model: Name of the model.
        cpu: Settings and model options on a CPU.
        gpu: Settings and model options on a GPU.
        meaning: One line for ``gentool list``.
    """

    model: str
    cpu: dict[str, Scalar]
    gpu: dict[str, Scalar]
    meaning: str

    def settings(self, device_kind: str) -> dict[str, Scalar]:
        """Return the settings for a device of kind ``cpu``, ``cuda`` or ``mps``."""
        return self.cpu if device_kind == "cpu" else self.gpu


def _row(images: int, batch: int, lr: float, width: int) -> dict[str, Scalar]:
    return {"images": images, "batch": batch, "lr": lr, "width": width}


def _preset(
    model: str, cpu: dict[str, Scalar], gpu: dict[str, Scalar], meaning: str, **options: Scalar
) -> Preset:
    """Return a preset whose ``options`` are the same on every device."""
    return Preset(model, cpu | options, gpu | options, meaning)


# fmt: off
PRESETS: dict[str, Preset] = {
    # CPU, then GPU:                         images  batch     lr width         images  batch     lr width
    "gan": _preset(
        "gan",                        _row(400_000, 64, 1e-3, 48), _row(3_000_000, 128, 5e-4, 128),
        "the recommended GAN: relativistic loss, R1 and R2, plain convolutions"),
    "dcgan": _preset(
        "gan",                        _row(400_000, 64, 2e-4, 48), _row(3_000_000, 128, 2e-4, 128),
        "DCGAN (Radford 2016), for comparison",
        loss="non-saturating", penalties="none", beta1=0.5, beta2=0.999, doubling="transposed"),
    "sngan": _preset(
        "gan",                        _row(400_000, 64, 2e-4, 64), _row(10_000_000, 64, 2e-4, 256),
        "SNGAN (Miyato 2018), for comparison",
        network="resnet", loss="hinge", penalties="none", spectral=True, critic_steps=5, beta2=0.9),
    "wgan-gp": _preset(
        "gan",                        _row(400_000, 64, 1e-4, 64), _row(10_000_000, 64, 1e-4, 256),
        "WGAN-GP (Gulrajani 2017), for comparison",
        network="resnet", loss="wasserstein", penalties="wgan-gp", critic_steps=5, beta2=0.9),
    "r3gan": _preset(
        "gan",                        _row(400_000, 64, 2e-4, 64), _row(20_000_000, 256, 2e-4, 768),
        "R3GAN (Huang 2024)",
        network="r3", latent_size=64, penalty_every=1, penalty_end=0.1),
    "stylegan2": _preset(
        "gan",                        _row(400_000, 32, 2e-3, 64), _row(10_000_000, 32, 2e-3, 512),
        "StyleGAN2 (Karras 2020)",
        network="style", latent_size=512, loss="non-saturating",
        penalties="r1:0.01/16+path-length"),
    "fastgan": _preset(
        "gan",                        _row(200_000, 16, 2e-4, 32), _row(1_000_000, 16, 2e-4, 64),
        "FastGAN (Liu 2021), for few images",
        network="fast", latent_size=256, spectral=True, loss="hinge", penalties="reconstruction",
        augment="diffaugment", beta1=0.5, beta2=0.999),
    "vae": _preset(
        "vae",                        _row(200_000, 16, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "variational autoencoder with a learned scale, latents on a grid and a fitted prior",
        grid=0, latent_size=6),
    "vae-gan": _preset(
        "vae-gan",                    _row(200_000, 16, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "VAE with a discriminator (Larsen 2016), for sharper images",
        grid=0, latent_size=6),
    "hvae": Preset(
        "hvae",                       _row(100_000, 32, 1e-3, 64) | {"layers": 12},
                                      _row(4_000_000, 64, 1e-3, 128) | {"layers": 20},
        "hierarchical VAE (VDVAE, Child 2021): the best likelihood, with sampled detail"),
    "vampvae": _preset(
        "vae",                        _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "variational autoencoder with a VampPrior (Tomczak 2018), trained jointly",
        prior="vamp", components=64),
    "beta-vae": _preset(
        "vae",                        _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "beta-VAE (Higgins 2017): a larger KL weight, for disentangled units",
        beta=4.0),
    "iwae": _preset(
        "vae",                        _row(100_000, 32, 1e-3, 48), _row(1_000_000, 64, 1e-3, 128),
        "IWAE (Burda 2016): a tighter bound with ten samples, doubly reparameterised (Tucker 2018)",
        samples=10),
    "autoencoder": _preset(
        "autoencoder",                _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "plain autoencoder with a bottleneck, and a density fitted to its codes"),
    "wae": _preset(
        "autoencoder",                _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "WAE-MMD (Tolstikhin 2018): codes close to N(0, I), by an MMD loss",
        regularisers="mmd", latent_size=64),
    "rae": _preset(
        "autoencoder",                _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128),
        "RAE-L2 (Ghosh 2020): penalties on codes and on decoder weights",
        regularisers="code-l2+decoder-l2"),
    "fsq": _preset(
        "fsq",                        _row(400_000, 16, 1e-3, 32), _row(6_000_000, 128, 5e-4, 128),
        "finite scalar quantisation (Mentzer 2023): sharp autoencoder, transformer over its codes"),
    "vqvae": _preset(
        "fsq",                        _row(400_000, 16, 1e-3, 32), _row(6_000_000, 128, 5e-4, 128),
        "VQ-VAE (van den Oord 2017): as fsq, with a learned codebook",
        quantiser="vq", latent_size=16),
}
# fmt: on

LARGE_PIXELS = 2048  # per image; a CPU then does few steps a minute, and smaller batches do better
OF_LARGE: dict[str, dict[str, Scalar]] = {  # replaces the preset's settings where tuned
    "gan": {"batch": 32, "lr": 5e-4},
}
FEWEST_SEEN, MOST_PASSES = 300_000, 300  # of a GAN's default budget: images seen, epochs
LARGEST_SIDE = {"cpu": 64, "gpu": 128}  # largest default side, per kind of device


def get_preset(name: str) -> Preset:
    """Return the preset called ``name``.

    Raises:
        UnknownName: there is none; the message has the nearest name.
    """
    if name not in PRESETS:
        raise unknown_name("model", name, list(PRESETS), "gentool list")
    return PRESETS[name]


def of_large(name: str, device_kind: str, pixels: int) -> dict[str, Scalar]:
    """Return settings for large images on a CPU that replace those of the preset; else none.

    Measured for `gan` with batches of 32 and 64: 24,000 faces at 64x64 gave an FD-random of 0.44
    and 0.64, 40,000 flags at 48x64 of 1.5 and 2.5; ten minutes of CIFAR-10 at 32x32 gave an
    FD-labels of 0.16 and 0.12 (all with ``doubling=transposed`` and a learning rate of 5e-4, then
    the defaults).

    At 32x32, learning rates of 5e-4 and 1e-3 gave a KL of 0.48 (of 20,000 samples) and 0.30 (of
    50,000) after seven minutes of ``modes``, an FD-labels of 0.29 and 0.18 after ten minutes of
    faces, and as the mean of three seeds 0.16 and 0.16 after ten minutes of CIFAR-10, where 2e-3
    gave 0.17 (one seed). Larger images were not tried at 1e-3.

    Args:
        name: Name of the preset.
        device_kind: ``cpu``, ``cuda`` or ``mps``.
        pixels: Height times width.
    """
    large = device_kind == "cpu" and pixels >= LARGE_PIXELS
    return OF_LARGE.get(name, {}) if large else {}


def budget_of(name: str, device_kind: str, images: int) -> int | None:
    """Return the budget in images for a GAN on few images; None where the preset's own is kept.

    The preset's budget would only overfit. Published GANs on few images see about 300,000 in all
    (Zhao et al. 2020, arXiv:2006.10738; Liu et al. 2021, arXiv:2101.04775), which is a thousand
    epochs or more.

    Args:
        name: Name of the preset.
        device_kind: ``cpu``, ``cuda`` or ``mps``.
        images: Number of training images.
    """
    preset = get_preset(name)
    own = int(preset.settings(device_kind)["images"])
    most = max(FEWEST_SEEN, MOST_PASSES * images)
    return most if preset.model == "gan" and most < own else None


def usual_images(name: str, device_kind: str, images: int) -> int:
    """Return how many images a finished run of a preset usually sees, with repetition.

    It is the default budget of the preset on this kind of device, or that for few images
    (``budget_of``). The defaults were chosen from measured runs, which are listed in the README
    under "Measured": with about this number of images, samples show their subject, and more images
    improve them only slowly.

    Args:
        name: Name of the preset.
        device_kind: ``cpu``, ``cuda`` or ``mps``.
        images: Number of training images.
    """
    own = int(get_preset(name).settings(device_kind)["images"])
    return budget_of(name, device_kind, images) or own


def largest_side(device_kind: str) -> int:
    """Return the largest side in pixels that ``train`` chooses by default."""
    return LARGEST_SIDE["cpu" if device_kind == "cpu" else "gpu"]
