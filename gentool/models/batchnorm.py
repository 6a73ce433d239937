"""Running statistics of batch normalisation, measured anew for weights that were averaged.

Running statistics are those of the live weights, batch by batch; an average of weights has others,
and normalises wrongly with those of its sources (Izmailov et al. 2018, arXiv:1803.05407, section
3.2). They are measured on the model's own samples, at the cost of a thousand of them.
"""

import numpy as np
import torch
from torch import nn

from gentool.models.base import Model

_BATCHES, _BATCH = 16, 64
_SEED = 2**61  # not a seed that people draw with


@torch.no_grad()
def refresh_statistics(model: Model, decoder: nn.Module) -> None:
    """Replace the running statistics of ``decoder``, the part of ``model`` that decodes.

    Its batch normalisation is in eval mode afterwards.
    """
    norms = [m for m in decoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    for batch in range(_BATCHES):
        model.decode(model.prior(np.arange(batch * _BATCH, (batch + 1) * _BATCH), _SEED))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
