"""Continue an existing run: settings that the command does not give are taken from the run.

Defaults of precision, batch, width and learning rate depend on the machine and the images, and
presets may change between versions. So that the same command continues the same run on another
machine or with a newer gentool, these settings come from the header of the run's state. Settings
that the command gives and that differ from those of the run are refused. Differences that are found
only when the state is read, such as other images, are refused by ``RunFolder.read_state``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gentool.checkpoint import STATE_NAME, read_header
from gentool.core.devices import select_device, select_precision
from gentool.core.errors import GentoolError, ModelFileError, UsageError
from gentool.core.options import from_json
from gentool.training.identity import OPTION, completed, options_of, other_settings
from gentool.training.layers import Layers, Setting, with_values
from gentool.training.settings import AUTO, SHAPE
from gentool.training.setup import Setup


def has_run(folder: Path) -> bool:
    """Return whether a run began in ``folder``, which a command there continues."""
    try:
        return (folder / STATE_NAME).is_file()
    except OSError:  # an impossible name; the error is raised where the folder is created
        return False


def continue_run(layers: Layers, setup: Setup, *, override: bool) -> tuple[Layers, str]:
    """Add the settings of the run in ``setup.out`` to those that were given to ``train``.

    Args:
        layers: The settings that were given.
        setup: The setup that a new run would have with them on this machine.
        override: Whether given settings may differ from those of the run.

    Returns:
        The layers, which must be resolved again, and a message on what differs from a new run on
        this machine. Unchanged layers and an empty message if nothing differs, if there is no run,
        or if the run has another model or preset.

    Raises:
        UsageError: a given setting differs from the run's, and ``override`` is False.
        ModelFileError: the state of the run is damaged.
    """
    path = setup.out / STATE_NAME
    if not has_run(setup.out):
        return layers, ""
    header, _ = read_header(path)
    before = header.get("identity")
    if header.get("kind") != "state" or not isinstance(before, dict):
        return layers, ""  # the error is raised where the state is read
    if before.get("model") != setup.model or header.get("preset") not in (None, layers.preset):
        return layers, ""
    was, now = _parts(completed(before, type(setup.config))), _parts(setup.identity())
    differing = {key: (was[key], now[key]) for key in now if key in was and was[key] != now[key]}
    given = {key: pair for key, pair in differing.items() if _is_given(layers, key)}
    if given and not override:
        raise other_settings(setup.out, given)
    taken = {key: was[key] for key in differing if key not in given}
    words = [f"{key} {value!s:.60} (not {now[key]!s:.60})" for key, value in taken.items()]
    if "batch" in layers.values and layers.get("batch") == AUTO and "--batch" in was:
        taken["--batch"] = was["--batch"]
        words = [w for w in words if not w.startswith("--batch ")]
        words.append(f"--batch {was['--batch']!s:.60} (auto measures only for a new run)")
    try:
        layers = _with(layers, setup, taken) if taken else layers
    except UsageError as error:
        raise ModelFileError(
            f"{path} is damaged (identity: {error!s:.120}). Choose another --out"
        ) from error
    layers = _title(layers, setup, header)
    layers, device = _device(layers, setup, header)
    return layers, "; ".join(filter(None, [_told(words, taken, setup), device]))


def _title(layers: Layers, setup: Setup, header: Mapping[str, Any]) -> Layers:
    """Return the layers with the title of the run, unless one was given."""
    title = header.get("name")
    if not isinstance(title, str) or "name" in layers.values:
        return layers
    try:
        return with_values(layers, {"name": Setting(title, f"the run in {setup.out}")}, {})
    except UsageError as error:
        raise ModelFileError(
            f"{setup.out / STATE_NAME} is damaged (name: {error!s:.120}). Choose another --out"
        ) from error


def _parts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity by flag, with ``--size`` and ``--mode`` as two separate flags."""
    parts = dict(identity)
    size, _, mode = str(parts.pop(SHAPE, "")).partition(" ")
    return {"--size": size, "--mode": mode, **parts} if mode else parts


def _is_given(layers: Layers, key: str) -> bool:
    """Return whether a setting was given with a value other than ``auto``."""
    if key.startswith(OPTION):
        setting = layers.options.get(key.removeprefix(OPTION))
    else:
        setting = layers.values.get(_name(key))
    return setting is not None and setting.value != AUTO


def _name(flag: str) -> str:
    """Return the name of the setting for a flag: ``--score-every`` -> ``score_every``."""
    return flag.removeprefix("--").replace("-", "_")


def _with(layers: Layers, setup: Setup, taken: Mapping[str, Any]) -> Layers:
    """Return the layers with settings of the run added.

    Args:
        layers: The settings that were given.
        setup: The setup that a new run would have.
        taken: Settings from the state file, by flag. The file may be damaged, so their types and
            bounds are checked.

    Raises:
        UsageError: an option or a value is unknown, has the wrong type, or is out of bounds.
    """
    origin = f"the run in {setup.out}"
    options = options_of(taken)
    from_json(type(setup.config), options)
    values = {_name(k): v for k, v in taken.items() if not k.startswith(OPTION)}
    if "precision" in values:
        select_precision(setup.device, str(values["precision"]))
    return with_values(
        layers,
        {k: Setting(v, origin) for k, v in values.items()},
        {k: Setting(v, origin) for k, v in options.items()},
    )


def _told(words: list[str], taken: Mapping[str, Any], setup: Setup) -> str:
    """Return a one-line message on the settings that differ from a new run on this machine."""
    told = f"continuing with the settings of the run: {', '.join(words[:20])}" if words else ""
    slow = taken.get("--precision") == "bfloat16" and setup.device.type == "cpu"
    return told + "; bfloat16 is slow on this CPU, which has no instructions for it" * slow


def _device(layers: Layers, setup: Setup, header: Mapping[str, Any]) -> tuple[Layers, str]:
    """Return the layers with the device of the run if ``auto`` would choose another; a message.

    If that device is not available, the layers are unchanged and the message says so.
    """
    device, here = header.get("device"), setup.device.type
    if not isinstance(device, str) or device == here or layers.get("device") != AUTO:
        return layers, ""
    try:
        select_device(device)
    except GentoolError:
        return (
            layers,
            f"the run was on {device:.20}, which is not available; it continues on {here}",
        )
    found = {"device": Setting(device, f"the run in {setup.out}")}
    return with_values(
        layers, found, {}
    ), f"the run continues on {device}, as before (not on {here})"
