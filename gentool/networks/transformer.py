"""A decoder-only transformer over sequences of code indices: p(s) = prod_t p(s_t | s_<t, class).

Vaswani et al. 2017 (arXiv:1706.03762) with causal attention, layer normalisation before each part
(Xiong et al. 2020, arXiv:2002.04745), learned positions, and initial weights as in GPT-2 (Radford
et al. 2019). The sequence begins with a start token, one per class. To draw a sequence, call
``step`` for each position: it keeps the keys and values of the positions before, so that nothing is
computed twice.
"""

import math

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from gentool.networks.parts import check_labels, fill_normal

_STD = 0.02  # standard deviation of the initial weights, as in GPT-2
_HEAD = 32  # channels per head, at least
_EXPANSION = 4  # channels of the inner layer / channels


def _linear(before: int, after: int, std: float = _STD) -> nn.Linear:
    layer = nn.Linear(before, after)
    fill_normal(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


def _vectors(rows: int, size: int) -> nn.Embedding:
    return nn.Embedding(rows, size, _weight=fill_normal(torch.empty(rows, size), _STD))


class Cache:
    """Keys and values of one layer for the positions so far.

    Attributes:
        keys: (B, heads, length, channels per head), filled up to position ``used``.
        values: The same for the values.
        used: Number of positions that are filled.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values, self.used = keys, values, 0

    def add(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one position, (B, heads, 1, channels) each; return keys and values so far."""
        self.keys[:, :, self.used] = key[:, :, 0]
        self.values[:, :, self.used] = value[:, :, 0]
        self.used += 1
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]


class Layer(nn.Module):
    """A layer of the transformer: x + attention(norm(x)), then x + MLP(norm(x)).

    Args:
        channels: Channels of x.
        heads: Number of heads; it divides the channels.
        depth: Layers in the whole network; with more layers, the initial weights of the layers
            that add to x are smaller.
    """

    def __init__(self, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads = heads
        std = _STD / math.sqrt(2 * depth)
        self.attention_norm = nn.LayerNorm(channels)
        self.query_key_value = _linear(channels, 3 * channels)
        self.project = _linear(channels, channels, std)
        self.inner_norm = nn.LayerNorm(channels)
        self.expand = _linear(channels, _EXPANSION * channels)
        self.contract = _linear(_EXPANSION * channels, channels, std)

    def forward(self, x: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Map (B, T, channels) to the same shape.

        With a cache, T is 1, and the cache holds the positions before.
        """
        heads = self.query_key_value(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.add(key, value)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.contract(gelu(self.expand(self.inner_norm(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Indices int64 (B, T) -> logits (B, T, words) of each index, given the indices before it.

    Args:
        words: Size of the vocabulary, which is the number of codes.
        length: T.
        channels: Channels of each position.
        depth: Number of layers.
        classes: Number of classes; 0 for an unconditional network.
    """

    def __init__(
        self, words: int, length: int, channels: int, depth: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.words, self.length, self.classes = words, length, classes
        self.heads = max(h for h in range(1, max(channels // _HEAD, 1) + 1) if channels % h == 0)
        self.starts = _vectors(max(classes, 1), channels)
        self.embedding = _vectors(words, channels)
        self.positions = nn.Parameter(fill_normal(torch.empty(length, channels), _STD))
        self.layers = nn.ModuleList(Layer(channels, self.heads, depth) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.head = _linear(channels, words)

    def start(self, rows: int, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return start tokens (rows, channels).

        Args:
            rows: Number of sequences.
            labels: Their classes, int64 (rows,); ignored if the network has no classes.

        Raises:
            ValueError: the network has classes and ``labels`` is None.
        """
        if not self.classes:
            labels = torch.zeros(rows, dtype=torch.int64, device=self.positions.device)
        else:
            labels = check_labels(labels, self.classes)
        return self.starts(labels)  # type: ignore[no-any-return]

    def forward(self, indices: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B, T, words), float32; row t depends only on indices before t."""
        first = self.start(len(indices), labels)[:, None]
        x = torch.cat([first, self.embedding(indices[:, :-1])], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)).float()  # type: ignore[no-any-return]

    def caches(self, rows: int) -> list[Cache]:
        """Return empty caches for ``rows`` sequences, one per layer."""
        shape = (rows, self.heads, self.length, self.positions.shape[1] // self.heads)
        return [
            Cache(self.positions.new_empty(shape), self.positions.new_empty(shape))
            for _ in self.layers
        ]

    def step(self, token: torch.Tensor, caches: list[Cache]) -> torch.Tensor:
        """Return logits (B, words), float32, of the index after ``token``.

        Args:
            token: (B, channels): at first ``start(...)``, then ``embedding(indices)``.
            caches: Caches of the tokens before; ``token`` is added to them.
        """
        x = (token + self.positions[caches[0].used])[:, None]
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer(x, cache)
        return self.head(self.norm(x))[:, 0].float()  # type: ignore[no-any-return]
