"""How a command goes on with a run that is there: what was not said is as the run began.

Precision, batch, width and rate are chosen by the machine and the images, and presets may change.
The same command on another machine, or with a newer gentool, is the same run nevertheless.
"""

from collections.abc import Mapping
from typing import Any

from gentool.checkpoint import STATE_NAME, read_header
from gentool.core.devices import select_device, select_precision
from gentool.core.errors import GentoolError, ModelFileError, UsageError
from gentool.core.options import from_json
from gentool.training.run_folder import other_settings
from gentool.training.settings import AUTO, SHAPE, Layers, Setting, default_identity, with_values
from gentool.training.setup import Setup

_OPTION = "-o "


def continue_run(layers: Layers, setup: Setup, *, override: bool) -> tuple[Layers, str]:
    """What was given to ``train``, and for the rest what the run in ``setup.out`` has.

    Args:
        layers: What was given.
        setup: What that and this machine would make a new run of.
        override: Whether what was given may differ from what the run has.

    Returns:
        The layers to resolve anew, and in words what is not as it would be here; the same layers
        and no words where nothing differs, no run is there, or it is one of another preset.

    Raises:
        UsageError: something was given that the run does not have.
        ModelFileError: its state is damaged.
    """
    path = setup.out / STATE_NAME
    try:
        there = path.is_file()
    except OSError:  # a name that no folder can have: who makes the folder says so
        there = False
    if not there:
        return layers, ""
    header, _ = read_header(path)
    before = header.get("identity")
    if header.get("kind") != "state" or not isinstance(before, dict):
        return layers, ""  # who reads the state says so
    if before.get("model") != setup.model or header.get("preset") not in (None, layers.preset):
        return layers, ""
    was = _parts(type(setup.config).absent(_options(before)), {**default_identity(), **before})
    now = _parts({}, setup.identity())
    differing = {key: (was[key], now[key]) for key in now if key in was and was[key] != now[key]}
    given = {key: pair for key, pair in differing.items() if _is_given(layers, key)}
    if given and not override:
        raise other_settings(setup.out, given)
    taken = {key: was[key] for key in differing if key not in given}
    words = [f"{key} {value!s:.60} (not {now[key]!s:.60})" for key, value in taken.items()]
    if "batch" in layers.values and layers.get("batch") == AUTO and "--batch" in was:
        taken["--batch"] = was["--batch"]
        words = [w for w in words if not w.startswith("--batch ")]
        words.append(f"--batch {was['--batch']!s:.60} (auto measures for a new run)")
    try:
        layers = _with(layers, setup, taken) if taken else layers
    except UsageError as error:
        raise ModelFileError(
            f"{path} is damaged (identity: {error!s:.120}). Choose another --out"
        ) from error
    layers, device = _device(layers, setup, header)
    return layers, "; ".join(filter(None, [_told(words, taken, setup), device]))


def _options(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The model's options in an identity."""
    return {k.removeprefix(_OPTION): v for k, v in identity.items() if k.startswith(_OPTION)}


def _parts(unsaid: Mapping[str, object], identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity by flags: size and mode apart, and with the options that it does not say."""
    parts = {**{_OPTION + k: v for k, v in unsaid.items()}, **identity}
    size, _, mode = str(parts.pop(SHAPE, "")).partition(" ")
    return {"--size": size, "--mode": mode, **parts} if mode else parts


def _is_given(layers: Layers, key: str) -> bool:
    """Whether a setting was said, and not left open by ``auto``."""
    if key.startswith(_OPTION):
        setting = layers.options.get(key.removeprefix(_OPTION))
    else:
        setting = layers.values.get(_name(key))
    return setting is not None and setting.value != AUTO


def _name(flag: str) -> str:
    """The setting of a flag."""
    return flag.removeprefix("--").replace("-", "_")


def _with(layers: Layers, setup: Setup, taken: Mapping[str, Any]) -> Layers:
    """Layers with what the run has, whose types and bounds are checked: a file may say anything."""
    origin = f"the run in {setup.out}"
    options = _options(taken)
    from_json(type(setup.config), options)
    values = {_name(k): v for k, v in taken.items() if not k.startswith(_OPTION)}
    if "precision" in values:
        select_precision(setup.device, str(values["precision"]))
    return with_values(
        layers,
        {k: Setting(v, origin) for k, v in values.items()},
        {k: Setting(v, origin) for k, v in options.items()},
    )


def _told(words: list[str], taken: Mapping[str, Any], setup: Setup) -> str:
    """One line of what is not as it would be here, and what that means."""
    told = f"going on as the run began, with {', '.join(words[:20])}" if words else ""
    slow = taken.get("--precision") == "bfloat16" and setup.device.type == "cpu"
    return told + "; this CPU has no instructions for bfloat16, which makes it slow" * slow


def _device(layers: Layers, setup: Setup, header: Mapping[str, Any]) -> tuple[Layers, str]:
    """The layers with the device that the run was on, where ``auto`` would take another."""
    device, here = header.get("device"), setup.device.type
    if not isinstance(device, str) or device == here or layers.get("device") != AUTO:
        return layers, ""
    try:
        select_device(device)
    except GentoolError:
        return layers, f"the run was on {device:.20}, which is not here; it continues on {here}"
    found = {"device": Setting(device, f"the run in {setup.out}")}
    return with_values(layers, found, {}), f"it continues on {device}, as it began (not {here})"
