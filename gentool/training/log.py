"""The file ``log.jsonl`` of a run: one JSON object per line, with means since the last line."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gentool.core.atomic_files import append, put


class RunLog:
    """Sums values of each step on the device and writes their means when it is asked to.

    Args:
        path: The file; it is created with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._held: dict[str, float] = {}
        self._since = (time.monotonic(), 0)

    @property
    def empty(self) -> bool:
        """Whether no values were added since the last line."""
        return not self._sums

    def records(self) -> list[dict[str, Any]]:
        """Return the lines as dictionaries, without damaged ones."""
        return [record for record, _ in self._read()]

    def _read(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each line as a dictionary and as text; damaged ones are left out."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                _ = record["images"] <= 0  # it is a number
            except (ValueError, KeyError, TypeError):
                continue  # the line is incomplete because the process was killed
            yield record, line

    def cut(self, images: int) -> list[dict[str, Any]]:
        """Remove the lines of more than ``images`` images, as the run continues from its state.

        Returns:
            The lines that are kept, as dictionaries.
        """
        self._sums, self._counts, self._since = {}, {}, (time.monotonic(), images)
        self._held = {}
        if not self.path.exists():
            return []
        kept = [(record, line) for record, line in self._read() if record["images"] <= images]
        put(self.path, "".join(f"{line}\n" for _, line in kept).encode())
        return [record for record, _ in kept]

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        """Add one scalar per name, without waiting for the device."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def hold(self, name: str, value: float) -> None:
        """Put a value into the next line, unless it is not finite."""
        if math.isfinite(value):
            self._held[name] = value

    def note(self, images: int, values: Mapping[str, object]) -> None:
        """Write one line with these values only, for example a score."""
        append(self.path, json.dumps({"images": images, **values}))

    def write(self, images: int, seconds: float, share: float) -> dict[str, float]:
        """Write the means as one line and reset the sums.

        Args:
            images: Images seen so far.
            seconds: Seconds used so far, over all commands of the run.
            share: Fraction of the run that is over, from 0 to 1.

        Returns:
            The line. It contains values that are not finite, so that the caller can react; the
            file has null in their place.
        """
        now = time.monotonic()
        before, images_before = self._since
        record: dict[str, float] = {
            "images": images,
            "seconds": round(seconds, 1),
            "share": round(share, 4),
            "images_per_second": round((images - images_before) / max(now - before, 1e-9), 1),
        }
        record |= {k: float(f"{s.item() / self._counts[k]:.6g}") for k, s in self._sums.items()}
        record |= self._held
        self._sums, self._counts, self._held, self._since = {}, {}, {}, (now, images)
        line = {k: v if math.isfinite(v) else None for k, v in record.items()}
        append(self.path, json.dumps(line))
        return record
