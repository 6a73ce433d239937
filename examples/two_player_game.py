"""The two-player game in one dimension, where every quantity of the paper can be computed.

Goodfellow et al. 2014, "Generative adversarial nets" (arXiv:1406.2661): a generator G turns
noise z ~ N(0, 1) into x, a discriminator D says how likely x is to be data, and they play

    min_G max_D V(D, G) = E_data[log D(x)] + E_z[log(1 - D(G(z)))]            (Eq. 1).

For a generator held still the best answer is D*(x) = p_data(x) / (p_data(x) + p_g(x)) (Eq. 2),
and it is worth V(D*, G) = -log 4 + 2 JSD(p_data || p_g) (Theorem 1). Here both densities are
known in closed form: p_data is a Gaussian or a mixture of two, and G is increasing in z, so
p_g(x) = N(z; 0, 1) / G'(z) at x = G(z). At four moments of the game a copy of the discriminator
is trained to its optimum while the generator waits, and is laid over D*. At the end p_g is
p_data, D* is 1/2 everywhere, and the game is worth -log 4.

Both players learn from gentool's own losses, the entries of ``gentool.models.adversarial``.

    python examples/two_player_game.py --out two_player_game.png
    python examples/two_player_game.py --loss minimax --data gaussian --steps 500

Needs matplotlib: pip install 'gentool[examples]'. Takes about 20 seconds on a CPU.
"""

import argparse
import copy
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus
from torch.special import ndtri

from gentool.models.adversarial import LOSSES, AdversarialLoss
from gentool.models.gan import cosine_placeholder  # noqa
