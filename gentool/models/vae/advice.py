"""What a VAE reports on its run: posterior collapse, and idle layers of latents."""

import math
from collections.abc import Mapping

from gentool.models.capabilities import Advice

_COLLAPSED_SHARE = 0.2  # fraction of the VAE's span before which a collapse is not reported
_LATE, _IDLE_NATS = 0.2, 0.1  # after this fraction of the run, a smaller KL is a collapse
_IDLE_LAYER_NATS = 0.01  # a layer with a smaller KL per image is idle
_STORM = 0.2  # fraction of skipped steps above which they are reported


class VAEAdvice(Advice):
    """Advice on a VAE with one layer of latents.

    Args:
        span: Fraction of the run in which the VAE is trained.
        per_unit: Whether free bits, which need the KL of every latent, can be advised.
    """

    def __init__(self, span: float, *, per_unit: bool) -> None:
        self._span, self._per_unit = span, per_unit

    def health(self, record: Mapping[str, float]) -> str | None:
        """Report posterior collapse."""
        idle = record.get("active_units", math.nan) < 0.5  # NaN: unknown
        if not idle or record["share"] < _COLLAPSED_SHARE * self._span:
            return None
        return (
            f"posterior collapse: the decoder ignores z (KL {record['kl']:.2g} nats per image, no "
            "active unit). Use a smaller -o beta or -o warm_up=0.2"
            + " or -o free_bits=0.05"
            * self._per_unit
        )


class LayeredAdvice(Advice):
    """Advice on a hierarchical VAE.

    Args:
        layers: Number of layers of latents.
        warm_up: Fraction of the run in which the weight of the KL rises.
    """

    def __init__(self, layers: int, warm_up: float) -> None:
        self._count, self._warm_up = layers, warm_up

    def health(self, record: Mapping[str, float]) -> str | None:
        """Report many skipped steps, posterior collapse, or idle layers."""
        if record.get("skipped_hvae", 0.0) > _STORM:
            return (
                f"{record['skipped_hvae']:.0%} of the last steps were skipped, because their "
                "gradients were much larger than usual. Use a smaller --lr, or a larger -o skip"
            )
        if record["kl"] < _IDLE_NATS and record["share"] > _LATE:
            return (
                f"posterior collapse: the latents carry no information on the images (KL "
                f"{record['kl']:.2g} nats per image). Use a smaller -o beta or -o warm_up=0.3"
            )
        return self._idle_layers(record)

    def _idle_layers(self, record: Mapping[str, float]) -> str | None:
        """Report layers whose KL is almost 0 after the warm-up of the KL."""
        kls = [record.get(f"kl/{k}", _IDLE_NATS) for k in range(self._count)]
        idle = [str(k + 1) for k, nats in enumerate(kls) if nats < _IDLE_LAYER_NATS]
        if not idle or record["share"] < max(_LATE, self._warm_up):
            return None
        return (
            f"unused layers: of {self._count} layers of latents, counted from the top, number "
            f"{', '.join(idle)} carry no information. Use a larger -o warm_up or a smaller -o beta"
        )
