"""The prior over codes: a transformer that learns the codes of images and draws new ones.

p(s | class) of van den Oord et al. 2017 (arXiv:1711.00937), section 3.3, with the transformer of
Esser et al. 2021 (arXiv:2012.09841), section 3.2, instead of the PixelCNN.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gentool.core.options import option
from gentool.models.classes import draw_classes
from gentool.models.priors import choose
from gentool.networks.transformer import Transformer


def _only_one(drawing: "Drawing") -> str | None:
    if drawing.top_k != 1:
        return None
    return "with top_k=1 the most probable code is always drawn. Leave one of them out"


@dataclass(frozen=True)
class Drawing:
    """Options for drawing codes; the defaults draw from the prior unchanged."""

    temperature: float = option(
        1.0, "below 1: more probable codes and less variety", low=0.01, high=10, idle=_only_one
    )
    top_k: int = option(0, "draw only from the k most probable codes; 0 for all", low=0, high=10**6)
    top_p: float = option(
        1.0,
        "draw only from the most probable codes up to this probability (Holtzman 2020)",
        low=0.001,
        high=1,
        idle=_only_one,
    )


def keep_likeliest(logits: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Return probabilities (B, K) at a temperature, with 0 outside of the top k and the top p.

    Top p is the smallest set of likeliest codes whose total probability is at least p (Holtzman et
    al. 2020, arXiv:1904.09751, Eq. 2 and 3). With such a limit the rows no longer sum to 1.

    Args:
        logits: (B, K).
        drawing: Temperature, top k and top p.
    """
    probabilities = (logits / drawing.temperature).softmax(dim=1)
    if drawing.top_k == 0 and drawing.top_p == 1:
        return probabilities
    ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
    kept = ranked.cumsum(dim=1) - ranked < drawing.top_p
    if drawing.top_k:
        kept[:, drawing.top_k :] = False
    kept[:, 0] = True
    return torch.zeros_like(probabilities).scatter(1, order, ranked * kept)


class CodePrior(nn.Module):
    """Transformer and class frequencies.

    Args:
        words: Number of different codes.
        length: Codes per image, T.
        channels: Width of the transformer.
        depth: Layers of the transformer.
        classes: Number of classes; 0 for none.

    Attributes:
        trained: 1 once it has begun to learn, else 0; a scalar buffer.
        class_shares: Frequencies of the classes in the data, (classes,), where there are classes.
    """

    trained: torch.Tensor
    class_shares: torch.Tensor

    def __init__(
        self, words: int, length: int, channels: int, depth: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.net = Transformer(words, length, channels, depth, classes)
        self.classes = classes
        self.register_buffer("trained", torch.zeros(()))
        if classes:
            self.register_buffer("class_shares", torch.full((classes,), 1 / classes))

    def nll(
        self, codes: torch.Tensor, labels: torch.Tensor | None, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return -log p(codes | label) per image in nats, shape (B,).

        Args:
            codes: int64 (B, T).
            labels: int64 (B,), for a prior with classes.
            seen: Codes that the transformer reads as earlier codes, (B, T); ``codes`` if None.
        """
        logits = self.net(codes if seen is None else seen, labels)
        return cross_entropy(logits.transpose(1, 2), codes, reduction="none").sum(dim=1)

    def draw_labels(self, uniform: torch.Tensor) -> torch.Tensor | None:
        """Draw classes int64 (B,) with their frequencies in the data; return None without classes.

        Args:
            uniform: Uniform numbers in [0, 1), (B,).
        """
        if not self.classes:
            return None
        return draw_classes(self.class_shares, uniform)

    def draw(
        self, uniform: torch.Tensor, labels: torch.Tensor | None, drawing: Drawing
    ) -> torch.Tensor:
        """Draw codes int64 (B, T); row i depends on row i of the arguments only.

        Args:
            uniform: One number in [0, 1) per code, (B, T).
            labels: int64 (B,), for a prior with classes.
            drawing: Temperature, top k and top p.
        """
        caches = self.net.caches(len(uniform))
        token, drawn = self.net.start(len(uniform), labels), []
        for column in uniform.unbind(dim=1):
            logits = self.net.step(token, caches)
            drawn.append(choose(keep_likeliest(logits, drawing), column))
            token = self.net.embedding(drawn[-1])
        return torch.stack(drawn, dim=1)
