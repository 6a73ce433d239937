"""``log.jsonl`` of a run: one JSON object a line, means of the losses since the line before."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gentool.core.atomic_files import append, put


class RunLog:
    """Accumulates values per step on the device and writes their means now and then.

    Args:
        path: The file; made at the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = (time.monotonic(), 0)

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last line."""
        return not self._sums

    def cut(self, images: int) -> list[dict[str, Any]]:
        """Forget lines beyond ``images``: the state, not the log, says how far a run is.

        Returns:
            The lines that are left.
        """
        self._sums, self._counts, self._since = {}, {}, (time.monotonic(), images)
        if not self.path.exists():
            return []
        kept, records = [], []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                keep = record["images"] <= images
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a kill
            if keep:
                kept.append(line + "\n")
                records.append(record)
        put(self.path, "".join(kept).encode())
        return records

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        """Add one scalar per name; no device is waited for."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def note(self, images: int, values: Mapping[str, object]) -> None:
        """Write a line of its own, such as a score."""
        append(self.path, json.dumps({"images": images, **values}))

    def write(self, images: int, seconds: float, share: float) -> dict[str, float]:
        """Write the means as one line and start over.

        Returns:
            The line; values that are not finite are left in for the caller to act on, and
            written as null.
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
        self._sums, self._counts, self._since = {}, {}, (now, images)
        line = {k: v if math.isfinite(v) else None for k, v in record.items()}
        append(self.path, json.dumps(line))
        return record
