"""The vision transformer of DINOv2 (Dosovitskiy et al. 2021; Oquab et al. 2024, arXiv:2304.07193).

It computes only the class token: ViT-B/14 without registers, with layer scale. The names of its
weights are those of the published file, so that a safetensors file of them loads without changes.
"""

import torch
from torch import nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

_EPS = 1e-6  # of the layer norms
_OFFSET = 0.1  # added to the grid size when position embeddings are resized, as in DINOv2's code


class Attention(nn.Module):
    """Multi-head self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, width) to tokens of the same shape."""
        batch, count, width = x.shape
        split = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Scale(nn.Module):
    """Layer scale (Touvron et al. 2021, arXiv:2103.17239): a trained factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply each channel of tokens (B, N, width) by its factor."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with a GELU between them; the hidden layer is four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, width) to tokens of the same shape."""
        return self.fc2(gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Residual attention and MLP, each with a layer norm before and a layer scale after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = (
            nn.LayerNorm(width, eps=_EPS), Attention(width, heads), Scale(width),
        )  # fmt: skip
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, eps=_EPS), Mlp(width), Scale(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, width) to tokens of the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """A convolution that maps each patch of an image to a token."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to tokens (B, H W / patch^2, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """A vision transformer that maps images to class tokens after the last layer norm.

    Args:
        width: Channels of a token.
        depth: Number of blocks.
        heads: Number of attention heads.
        patch: Side of a patch, in pixels.
        grid: Side of the grid that the position embeddings were trained for, in patches.
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
        """Return class tokens (B, width) of normalised images (B, 3, H, W).

        H and W must be multiples of ``patch``.
        """
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], dim=1)
        tokens = tokens + self.positions(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 0]  # type: ignore[no-any-return]

    def positions(self, images: torch.Tensor) -> torch.Tensor:
        """Return position embeddings (1, 1 + N, width) for N patches, resized bicubically."""
        patch = self.patch_embed.proj.kernel_size[0]
        rows, columns = images.shape[2] // patch, images.shape[3] // patch
        if rows == columns == self._grid:
            return self.pos_embed
        square = self.pos_embed[:, 1:].view(1, self._grid, self._grid, -1).permute(0, 3, 1, 2)
        factors = [(rows + _OFFSET) / self._grid, (columns + _OFFSET) / self._grid]
        resized = interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
