"""The vision transformer of DINOv2 (Dosovitskiy et al. 2021; Oquab et al. 2024, arXiv:2304.07193).

Only what turns images into class tokens: ViT-B/14 without registers, with layer scale. The names
of its weights are those of the published file, so that a safetensors file of them loads as it is.
"""

import torch
from torch import nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

_EPS = 1e-6  # of the layer norms
_OFFSET = 0.1  # added to the wanted grid when position embeddings are resized, as published


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, width) to tokens."""
        batch, count, width = x.shape
        split = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Scale(nn.Module):
    """Layer scale (Touvron et al. 2021, arXiv:2103.17239): a factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens, each channel times its factor."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two layers with a GELU, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens to tokens."""
        return self.fc2(gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and MLP, each normalised before, scaled and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = (
            nn.LayerNorm(width, eps=_EPS), Attention(width, heads), Scale(width),
        )  # fmt: skip
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, eps=_EPS), Mlp(width), Scale(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, width) to tokens."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """Patches to tokens."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) to tokens (B, H W / patch^2, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Images to normalised class tokens.

    Args:
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads.
        patch: Side of a patch in pixels.
        grid: Side of the grid of patches that the position embeddings were trained for.
    """

    def __init__(
        self, width: int = 768, depth: int = 12, heads: int = 12, patch: int = 14, grid: int = 37
    ) -> None:
        super().__init__()
        self._grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class tokens (B, width) of normalised images (B, 3, H, W), sides multiples of patch."""
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], dim=1)
        tokens = tokens + self._positions(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]  # type: ignore[no-any-return]

    def _positions(self, images: torch.Tensor) -> torch.Tensor:
        """Position embeddings for the images' own grid, resized bicubically."""
        patch = self.patch_embed.proj.kernel_size[0]
        rows, columns = images.shape[2] // patch, images.shape[3] // patch
        if rows == columns == self._grid:
            return self.pos_embed
        square = self.pos_embed[:, 1:].view(1, self._grid, self._grid, -1).permute(0, 3, 1, 2)
        factors = [(rows + _OFFSET) / self._grid, (columns + _OFFSET) / self._grid]
        resized = interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
