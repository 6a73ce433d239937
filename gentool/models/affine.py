"""Affine maps of images, with reflection at the edges and bilinear interpolation.

Written with ``gather``, since the second derivative of ``grid_sample`` is missing on some devices
and versions; the result is linear in the images, so all derivatives exist. Positions are in pixels
from the centre of the image, x to the right and y down. A map (B, 3, 3) takes a pixel of the result
to the position in the given image where it is read, so maps are multiplied in the order in which
they are applied: ``first @ second``.
"""

import torch


def compose(*maps: torch.Tensor) -> torch.Tensor:
    """Return the product of (B, 3, 3) maps, applied from left to right; exact under autocast."""
    out = maps[0]
    for following in maps[1:]:
        out = (out[:, :, :, None] * following[:, None]).sum(dim=2)
    return out


def matrix(*entries: torch.Tensor | float) -> torch.Tensor:
    """Return maps (B, 3, 3) of nine entries, row by row, each a number or (B,)."""
    rows = next(e for e in entries if isinstance(e, torch.Tensor))
    full = [e if isinstance(e, torch.Tensor) else torch.full_like(rows, e) for e in entries]
    return torch.stack(full, dim=1).view(-1, 3, 3)


def translation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return maps that shift the image by (x, y) pixels, each (B,)."""
    return matrix(1.0, 0.0, -x, 0.0, 1.0, -y, 0.0, 0.0, 1.0)


def scaling(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return maps that enlarge the image by factors (x, y), each (B,); negative ones mirror it."""
    return matrix(1 / x, 0.0, 0.0, 0.0, 1 / y, 0.0, 0.0, 0.0, 1.0)


def rotation(angle: torch.Tensor) -> torch.Tensor:
    """Return maps that rotate the image counter-clockwise by ``angle`` (B,) in radians."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return matrix(cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)


def quarter_turns(count: torch.Tensor) -> torch.Tensor:
    """Return maps that rotate the image counter-clockwise by ``count`` times 90 degrees.

    They have no rounding error, unlike ``rotation``.

    Args:
        count: (B,), in {0, 1, 2, 3}.
    """
    cos = (count == 0).float() - (count == 2).float()
    sin = (count == 1).float() - (count == 3).float()
    return matrix(cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    """Fold positions into [0, size - 1] by reflection at the centres of the outermost pixels."""
    last = size - 1
    return last - (torch.remainder(position, 2 * last) - last).abs()


def warp(images: torch.Tensor, maps: torch.Tensor, nearest: bool = False) -> torch.Tensor:
    """Return images read through affine maps.

    Args:
        images: (B, C, H, W), sides at least 2.
        maps: (B, 3, 3), from the pixels of the result to positions in ``images``.
        nearest: Read the nearest pixel, for maps that only mirror, rotate by 90 degrees or shift by
            whole pixels.

    Returns:
        (B, C, H, W) in the memory format of ``images``, interpolated bilinearly between pixels,
        reflected beyond the edges.
    """
    batch, channels, height, width = images.shape
    y = torch.arange(height, device=maps.device, dtype=maps.dtype)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=maps.device, dtype=maps.dtype) - (width - 1) / 2
    a = maps[:, :, :, None, None]
    at_x = _reflect(a[:, 0, 0] * x + a[:, 0, 1] * y + a[:, 0, 2] + (width - 1) / 2, width)
    at_y = _reflect(a[:, 1, 0] * x + a[:, 1, 1] * y + a[:, 1, 2] + (height - 1) / 2, height)
    flat = images.flatten(2)

    def read(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        index = (row * width + column).view(batch, 1, -1).expand(-1, channels, -1)
        return flat.gather(2, index).view(images.shape)

    if nearest:
        out = read(at_y.round().long(), at_x.round().long())
    else:
        left, top = at_x.floor().long(), at_y.floor().long()
        right, bottom = (left + 1).clamp_max(width - 1), (top + 1).clamp_max(height - 1)
        u = (at_x - left)[:, None].to(images.dtype)
        v = (at_y - top)[:, None].to(images.dtype)
        above = (1 - u) * read(top, left) + u * read(top, right)
        below = (1 - u) * read(bottom, left) + u * read(bottom, right)
        out = (1 - v) * above + v * below
    if images.is_contiguous(memory_format=torch.channels_last):
        return out.contiguous(memory_format=torch.channels_last)
    return out
