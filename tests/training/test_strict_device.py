"""Training steps on a stand-in for a GPU (``helpers/strict_device.py``): nothing waits or fails."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from strict_device import META, RefusedByDevice, StrictDevice

from gentool.core.images import ImageShape
from gentool.core.options import from_json
from gentool.core.registry import Registry
from gentool.core.rng import Draw
from gentool.data import open_dataset
from gentool.models import MODELS
from gentool.models.augmentation import AUGMENTATIONS
from gentool.models.base import Batch
from gentool.models.gan.losses import LOSSES
from gentool.models.gan.penalties import PENALTIES
from gentool.models.presets import PRESETS
from gentool.models.vae.regularisers import REGULARISERS
from gentool.networks import PAIRS
from gentool.training.batches import Feeder

SHAPE = ImageShape(16, 16, 3)
# Each penalty is due at step 48. At every 64th step, likelihoods wait for the device on purpose.
STEPS = (1, 48)


def _variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Models with options: all presets, and every entry of the tables that a step uses."""
    for preset in PRESETS.values():
        own = {field.name for field in fields(MODELS.get(preset.model).Config)}
        yield preset.model, {k: v for k, v in preset.cpu.items() if k in own - {"width"}}
    yield "vae", {"prior": "latent-flow", "grid": 4}
    tables: dict[str, Registry[Any]] = {"augment": AUGMENTATIONS, "network": PAIRS, "loss": LOSSES}
    for key, table in tables.items():
        yield from (("gan", {key: name}) for name in table)
    for name in PENALTIES:
        needed = {"network": "fast"} if name == "reconstruction" else {}
        yield "gan", {"penalties": name} | needed
    yield from (("vae", {"regularisers": name}) for name in REGULARISERS)


def _id(part: object) -> str:
    """A short name of a model, or of its options."""
    return "+".join(f"{k}={v}" for k, v in part.items()) if isinstance(part, dict) else str(part)


@pytest.mark.parametrize(("name", "options"), list(_variants()), ids=_id)
def test_a_step_waits_for_no_device_and_has_nothing_of_another(
    name: str, options: dict[str, Any]
) -> None:
    config = from_json(MODELS.get(name).Config, {"width": 8, "latent_size": 8} | options)
    classes = 0 if config.why_unconditional(2) else 2
    model = MODELS.get(name)(config, SHAPE, classes).train().to(META)
    batch = Batch(torch.zeros(6, 3, 16, 16, device=META), torch.zeros(6, device=META).long())
    for step in STEPS:
        for phase in model.phases():
            model.requires_grad_(False)
            phase.module.requires_grad_(True)
            with StrictDevice():
                terms = phase.loss(batch, Draw(0, "test", np.arange(6), step, META, 0.5))
                terms.total.mean().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("augment", ["none", "flip+translation"])
def test_a_batch_is_copied_without_releasing_its_memory(augment: str, tmp_path: Path) -> None:
    dataset = open_dataset("builtin:shapes:40", "16", "rgb")
    feeder = Feeder(dataset.split(0).train, 0, 8, META, augment)
    with StrictDevice() as device:
        batch = feeder.batch(0)
    assert batch.images.is_meta
    assert device.copied >= 1


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x.double(),
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3).to(META, non_blocking=True),
        lambda x: x.copy_(torch.ones(3), non_blocking=True),
    ],
)
def test_the_stand_in_refuses_what_it_says(fault: Callable[[torch.Tensor], object]) -> None:
    x = torch.zeros(3, device=META)
    with StrictDevice(), pytest.raises(RefusedByDevice):
        fault(x)
