"""Options that have no effect beside others are known, and are refused if somebody gives them."""

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from gentool.core.errors import UsageError
from gentool.core.half_cosine import half_cosine
from gentool.core.images import ImageShape
from gentool.core.options import from_json, idle_options, refuse_idle
from gentool.core.rng import Draw
from gentool.models import MODELS
from gentool.models.base import BaseConfig, Batch, Model, Phase

SHAPE = ImageShape(16, 16, 1)
TINY = {"width": 8, "latent_size": 8}
FEWER_LAYERS: dict[str, dict[str, int]] = {"fsq": {"layers": 1}, "hvae": {"layers": 5}}
ROWS, STEPS, CPU = 4, 4, torch.device("cpu")
EVERY = 8  # only every eighth step is done: those in which penalties are due
# Their effect is outside of the model, or needs more than a few steps.
ELSEWHERE = {"ema_images", "skip"}
SLOW_TO_FIT = {"flow", "flow-matching"}


def tiny(name: str) -> BaseConfig:
    """The options of a tiny model."""
    return from_json(MODELS.get(name).Config, {**TINY, **FEWER_LAYERS.get(name, {})})


def alternatives(config: BaseConfig, name: str) -> list[Any]:
    """Other values of an option, some of which switch something off or on."""
    spec = {f.name: f for f in fields(config)}[name]
    about, value = spec.metadata, getattr(config, name)
    if about["choices"] is not None:
        chosen = [*about["choices"], *(["none"] if about["joined"] else [])]
        weighted = [f"{word}:0.5/2" for word in about["choices"]] if about["weighted"] else []
        return [word for word in [*chosen, *weighted] if word != value]
    kind = get_type_hints(type(config))[name]
    if kind is bool:
        return [not value]
    ends = (value * 2 or 2, value / 2, 0.5, 1e-3, 0, 1, 2, 3, 1000)
    inside = [n for n in ends if about["low"] <= n <= about["high"] and n != value]
    return list(dict.fromkeys(kind(n) for n in inside if kind(n) == n))


def variations(name: str) -> Iterator[BaseConfig]:
    """Tiny options of a model, and those that differ from them in one option, or lack two."""
    config = tiny(name)
    yield config
    zeros = []
    for spec in fields(config):
        others = alternatives(config, spec.name)
        if spec.metadata["choices"] is None and len(others) > 2:
            others = [min(others)]  # 0, or a little where 0 is the default
        zeros += [spec.name] * (0.0 in others and not isinstance(getattr(config, spec.name), bool))
        for value in others:
            yield replace(config, **{spec.name: value})
    for first, second in combinations(zeros, 2):
        off = {key: type(getattr(config, key))(0) for key in (first, second)}
        yield replace(config, **off)


DECLARED = [
    (model, spec.name)
    for model in MODELS
    for spec in fields(MODELS.get(model).Config)
    if spec.metadata["idle"] is not None
]


@pytest.mark.parametrize(("model", "option"), DECLARED)
def test_an_option_is_refused_where_it_has_no_effect_and_only_if_it_is_given(
    model: str, option: str
) -> None:
    found = {option in idle_options(config): config for config in variations(model)}
    assert set(found) == {True, False}, "it is never idle, or always"
    refuse_idle(found[False], {option})
    refuse_idle(
        found[True], {f.name for f in fields(found[True])} - idle_options(found[True]).keys()
    )
    with pytest.raises(UsageError, match=rf"option {option}=.* has no effect: ") as refused:
        refuse_idle(found[True], {option})
    assert len(str(refused.value)) < 250


def step_of(model: Model, phase: Phase, optimiser: torch.optim.Optimizer, step: int) -> None:
    """One update, as in the training loop."""
    share = (step + 0.9) / STEPS  # late enough in the end for a phase of the last tenth
    begin, end = phase.span
    if not begin <= share < end:
        return
    for turn in range(phase.repeats):
        images = pictures(turn + phase.repeats * step, model.config)
        model.requires_grad_(False)
        phase.module.requires_grad_(True)
        optimiser.param_groups[0]["lr"] = (
            1e-3 * phase.lr_factor * half_cosine(phase.progress(share), floor=phase.decay)
        )
        optimiser.zero_grad()
        draw = Draw(0, phase.name, np.arange(ROWS), EVERY * step, CPU, share)
        phase.loss(Batch(images), draw).total.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def pictures(number: int, config: BaseConfig) -> torch.Tensor:
    """Grey levels of a batch, in [-1, 1]; black and white where the model takes no others."""
    generator = torch.Generator().manual_seed(number)
    size = (ROWS, SHAPE.channels, SHAPE.height, SHAPE.width)
    levels = torch.randint(256, size, generator=generator) / 127.5 - 1
    inked = getattr(config, "likelihood", "") == "bernoulli" and not getattr(config, "binarise", 0)
    return levels.sign() if inked else levels


def trained(name: str, config: BaseConfig) -> dict[str, torch.Tensor] | str:
    """What the model file would hold after a few steps, and samples; or why it cannot be built."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            model = MODELS.get(name)(config, SHAPE).train()
        except UsageError as error:
            return str(error)
    batches = lambda: iter([Batch(pictures(k, config)) for k in range(3)])  # noqa: E731
    model.begin(batches)
    phases = model.phases()
    optimisers = [torch.optim.Adam(p.module.parameters(), betas=p.betas) for p in phases]
    for step in range(STEPS):
        for phase, optimiser in zip(phases, optimisers, strict=True):
            step_of(model, phase, optimiser, step)
    if getattr(config, "prior", "") not in SLOW_TO_FIT:
        model.eval().finish(batches)
    parts = model.exported_parts().items()
    return {f"{part}.{k}": v.clone() for part, m in parts for k, v in m.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two models are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def effect_of(
    name: str, config: BaseConfig, option: str, before: dict[str, torch.Tensor]
) -> bool | None:
    """Whether another value changes the model; None where no other value fits the options."""
    found = None
    for value in alternatives(config, option):
        after = trained(name, replace(config, **{option: value}))
        if not isinstance(after, str):
            found = not same(before, after)
        if found:
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_options_change_the_model_unless_they_are_declared_idle(name: str) -> None:
    """Every option is tried beside every other setting of one further option."""
    wrong = []
    for config in variations(name):
        before = trained(name, config)
        if isinstance(before, str):  # options that do not fit together
            continue
        idle = idle_options(config)
        for option in {f.name for f in fields(config)} - ELSEWHERE:
            found = effect_of(name, config, option, before)
            if found is not None and found == (option in idle):
                differs = {f.name: getattr(config, f.name) for f in fields(config)
                           if getattr(config, f.name) != getattr(tiny(name), f.name)}  # fmt: skip
                wrong.append((differs, option, "declared" if option in idle else "not declared"))
    assert not wrong
