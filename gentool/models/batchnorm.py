"""Running statistics of batch normalisation, measured again for averaged weights.

Running statistics belong to the trained weights. Averaged weights have other activations and need
statistics of their own (Izmailov et al. 2018, arXiv:1803.05407, section 3.2). They are measured on
1,024 samples of the model, at the cost of drawing these.
"""

import numpy as np
import torch
from torch import nn

from gentool.models.base import Model

_BATCHES, _BATCH = 16, 64
_SEED = 2**61  # unlikely to be the seed of a user


@torch.no_grad()
def refresh_statistics(model: Model, decoder: nn.Module) -> None:
    """Replace the running statistics of ``decoder``, the part of ``model`` that decodes.

    Its batch normalisation layers are in eval mode afterwards.
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
