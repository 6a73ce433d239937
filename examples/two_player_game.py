"""The two-player game in one dimension, where everything the paper speaks of can be computed.

Goodfellow et al. 2014, "Generative adversarial nets" (arXiv:1406.2661): a generator G turns
noise z ~ N(0, 1) into x, a discriminator D says how likely x is to be data, and they play

    min_G max_D V(D, G) = E_data[log D(x)] + E_z[log(1 - D(G(z)))].            (Eq. 1)

Against a generator held still the best discriminator is

    D*(x) = p_data(x) / (p_data(x) + p_g(x)),                                  (Eq. 2)

and it is worth V(D*, G) = -log 4 + 2 JSD(p_data || p_g) (Theorem 1). Here both densities have
a closed form: p_data is a mixture of two Gaussians, or one, and G increases with z, so that
p_g(x) = N(z; 0, 1) / G'(z) at x = G(z). At four moments of the game a copy of the
discriminator is trained until it is nearly optimal, while the generator waits, and is drawn
over D*. In the end p_g is all but p_data, D* is near 1/2 where there are data, and V is near
-log 4, the least that G can reach.

Both players learn from gentool's own losses, entries of ``gentool.models.gan.losses``.

    python examples/two_player_game.py --out two_player_game.png
    python examples/two_player_game.py --loss minimax --data gaussian --steps 500

Needs matplotlib (pip install 'gentool[examples]'); takes about 20 seconds on a CPU.
"""

import argparse
import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import logsigmoid
from torch.special import ndtri

from gentool.models.gan.losses import LOSSES, AdversarialLoss

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        "this example draws with matplotlib: pip install 'gentool[examples]'"
    ) from error

BATCH = 256
CRITIC_STEPS = 2  # k of Algorithm 1: how often D moves for every move of G
RATE = 1e-2  # Adam's learning rate, for both players and for D on its way to D*
OPTIMUM_STEPS, OPTIMUM_BATCH = 800, 1024  # how D is brought near D* for a picture
SHARES = (0.0, 0.03, 0.15, 1.0)  # of the game, when the pictures are taken
SEEN = 0.01  # D and D* are compared where (p_data + p_g) / 2 exceeds this: elsewhere D sees nothing
INK = {"data": "#3b6fb6", "generator": "#e07b39", "trained": "#2a9d5c", "exact": "#222222"}


@dataclass(frozen=True)
class Mixture:
    """p_data: Gaussians of these means and scales, equally likely."""

    means: tuple[float, ...]
    scales: tuple[float, ...]

    def density(self, x: torch.Tensor) -> torch.Tensor:
        """The value p_data(x)."""
        pairs = zip(self.means, self.scales, strict=True)
        return torch.stack([normal_density((x - m) / s) / s for m, s in pairs]).mean(dim=0)

    def draw(self, count: int) -> torch.Tensor:
        """``count`` draws, the same number from each Gaussian."""
        each = count // len(self.means)
        pairs = zip(self.means, self.scales, strict=True)
        return torch.cat([m + s * draw_normal(each) for m, s in pairs])


DATA = {"mixture": Mixture((-1.5, 1.5), (0.5, 0.8)), "gaussian": Mixture((1.5,), (0.6,))}


class Generator(nn.Module):
    """G(z) = b + e^s z + sum_k a_k tanh(w_k z + c_k), all a_k, w_k > 0: increasing in z."""

    def __init__(self, units: int = 16) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor(0.0))
        self.s = nn.Parameter(torch.tensor(math.log(0.5)))
        self.log_a = nn.Parameter(torch.full((units,), -4.0))
        self.log_w = nn.Parameter(torch.zeros(units))
        self.c = nn.Parameter(torch.linspace(-2, 2, units))

    def _units(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.log_w.exp() * z[:, None] + self.c)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Where G sends each z, shape (N,)."""
        return self.b + self.s.exp() * z + self._units(z) @ self.log_a.exp()

    def slope(self, z: torch.Tensor) -> torch.Tensor:
        """G'(z), shape (N,)."""
        return self.s.exp() + (1 - self._units(z).square()) @ (self.log_a + self.log_w).exp()

    def density(self, x: torch.Tensor) -> torch.Tensor:
        """The value p_g(x) = N(z; 0, 1) / G'(z), with z = G^-1(x) found by halving an interval."""
        low, high = torch.full_like(x, -40.0), torch.full_like(x, 40.0)
        for _ in range(60):
            middle = (low + high) / 2
            below = self(middle) < x
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return normal_density(low) / self.slope(low)


def make_discriminator(width: int = 32) -> nn.Sequential:
    """From x (N, 1) to the logit a(x) of D(x) = sigmoid(a(x)), (N, 1)."""
    return nn.Sequential(
        nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
    )


def normal_density(z: torch.Tensor) -> torch.Tensor:
    """N(z; 0, 1)."""
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def draw_normal(count: int) -> torch.Tensor:
    """``count`` draws from N(0, 1), one from each of ``count`` equally likely intervals.

    Still draws from N(0, 1), but their averages scatter far less than those of free draws.
    """
    u = (torch.arange(count) + torch.rand(count)) / count
    z: torch.Tensor = ndtri(u.clamp(1e-6, 1 - 1e-6))
    return z


@dataclass(frozen=True)
class Moment:
    """One picture of the game, on the grid of ``Referee``."""

    step: int
    p_g: torch.Tensor
    trained: torch.Tensor
    exact: torch.Tensor
    value: float
    optimum: float
    gap: float


class Referee:
    """Knows p_data and integrates over a fine grid of x, in float64."""

    def __init__(self, data: Mixture) -> None:
        self.x = torch.linspace(-7, 7, 2801, dtype=torch.float64)
        self.p_data = data.density(self.x)

    def integrate(self, values: torch.Tensor) -> float:
        """The integral over x; the trapezoidal rule is all but exact for smooth densities."""
        return float(torch.trapezoid(values, self.x))

    def p_g(self, generator: Generator) -> torch.Tensor:
        """The generator's density on the grid."""
        return copy.deepcopy(generator).double().density(self.x)

    def logits(self, discriminator: nn.Module) -> torch.Tensor:
        """a(x) on the grid."""
        logits: torch.Tensor = discriminator(self.x.float()[:, None])
        return logits.squeeze(1).double()

    def value(self, logits: torch.Tensor, p_g: torch.Tensor) -> float:
        """V(D, G) of Eq. 1."""
        return self.integrate(self.p_data * logsigmoid(logits) + p_g * logsigmoid(-logits))

    def optimum(self, p_g: torch.Tensor) -> float:
        """max_D V(D, G) = -log 4 + 2 JSD(p_data || p_g), Theorem 1."""
        middle = (self.p_data + p_g) / 2
        divergences = [self.integrate(torch.xlogy(p, p / middle)) for p in (self.p_data, p_g)]
        return -math.log(4) + sum(divergences)

    def look(self, step: int, generator: Generator, trained: nn.Module) -> Moment:
        """Compare a discriminator trained against this generator with D*."""
        p_g, logits = self.p_g(generator), self.logits(trained)
        both = self.p_data + p_g
        exact = self.p_data / both
        seen = both / 2 > SEEN
        gap = float((logits.sigmoid() - exact)[seen].abs().max())
        return Moment(
            step, p_g, logits.sigmoid(), exact, self.value(logits, p_g), self.optimum(p_g), gap
        )


class Game:
    """The two players and their turns."""

    def __init__(self, data: Mixture, loss: AdversarialLoss) -> None:
        self.data, self.loss = data, loss
        self.generator, self.discriminator = Generator(), make_discriminator()

    def critic_loss(self, discriminator: nn.Module, count: int) -> torch.Tensor:
        """What D minimises: -V(D, G) on ``count`` draws."""
        real = self.data.draw(count)
        with torch.no_grad():
            fake = self.generator(draw_normal(len(real)))
        return self.loss.critic(discriminator(real[:, None]), discriminator(fake[:, None])).mean()

    def generator_loss(self, count: int) -> torch.Tensor:
        """What G minimises, on ``count`` draws; these losses do not look at the data."""
        fake = self.discriminator(self.generator(draw_normal(count))[:, None])
        return self.loss.generator(fake.detach(), fake).mean()

    @torch.enable_grad()
    def best_discriminator(self) -> nn.Module:
        """A copy of D, trained to near its optimum while the generator is held still."""
        trained = copy.deepcopy(self.discriminator)
        optimiser = torch.optim.Adam(trained.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, OPTIMUM_STEPS)
        for _ in range(OPTIMUM_STEPS):
            descend(optimiser, self.critic_loss(trained, OPTIMUM_BATCH))
            schedule.step()
        return trained


@dataclass
class Record:
    """What is drawn: pictures, and the value over time."""

    moments: list[Moment] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    optima: list[float] = field(default_factory=list)


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One gradient step."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def play(game: Game, referee: Referee, steps: int) -> Record:
    """Algorithm 1: k steps of D, then one of G, again and again."""
    record = Record()
    pictures = sorted({round(share * steps) for share in SHARES})
    every = max(1, steps // 200)
    for_d = torch.optim.Adam(game.discriminator.parameters(), lr=RATE, betas=(0.5, 0.99))
    for_g = torch.optim.Adam(game.generator.parameters(), lr=RATE, betas=(0.5, 0.99))
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in (for_d, for_g)]
    for step in range(steps + 1):
        with torch.no_grad():
            if step in pictures:
                record.moments.append(referee.look(step, game.generator, game.best_discriminator()))
                announce(record.moments[-1])
            if step % every == 0:
                p_g = referee.p_g(game.generator)
                record.steps.append(step)
                record.values.append(referee.value(referee.logits(game.discriminator), p_g))
                record.optima.append(referee.optimum(p_g))
        if step == steps:
            break
        for _ in range(CRITIC_STEPS):
            descend(for_d, game.critic_loss(game.discriminator, BATCH))
        descend(for_g, game.generator_loss(BATCH))
        for schedule in schedules:
            schedule.step()
    return record


def announce(moment: Moment) -> None:
    """One line per picture."""
    print(
        f"step {moment.step:5d}   largest gap |D - D*| {moment.gap:.3f}   "
        f"V(D,G) {moment.value:+.4f}   -log 4 + 2 JSD {moment.optimum:+.4f}",
        flush=True,
    )


def draw_moment(above: Axes, below: Axes, referee: Referee, moment: Moment) -> None:
    """The densities, and under them D trained over D*."""
    x = referee.x.numpy()
    curves = ((referee.p_data, "data", "$p_{data}$"), (moment.p_g, "generator", "$p_g$"))
    for p, who, name in curves:
        above.fill_between(x, p.numpy(), color=INK[who], alpha=0.25, lw=0)
        above.plot(x, p.numpy(), color=INK[who], lw=1.5, label=name)
    above.set_title(f"after {moment.step:,} steps" if moment.step else "before the first step")
    nothing = ((referee.p_data + moment.p_g) / 2 <= SEEN).numpy()
    below.fill_between(x, -1, 2, where=nothing, color="#eeeeee", lw=0, label="hardly any x")
    below.axhline(0.5, color="#bbbbbb", lw=0.8)
    below.plot(x, moment.trained.numpy(), color=INK["trained"], lw=3.5, label="D, trained")
    below.plot(x, moment.exact.numpy(), "--", color=INK["exact"], lw=1.3, label="D*, Eq. 2")
    below.set_xlabel(
        f"largest gap of D to D*: {moment.gap:.3f}\nV(D, G) = {moment.value:.3f}\n"
        f"$-\\log 4 + 2\\,JSD$ = {moment.optimum:.3f}"
    )
    below.set(xlim=(-4.5, 4.5), ylim=(-0.03, 1.03))


def draw_value(axes: Axes, record: Record) -> None:
    """V over the game: below the best that D can do, which G pulls down to -log 4."""
    best = "$-\\log 4 + 2\\,JSD(p_{data}\\,\\|\\,p_g)$, the best for D"
    axes.plot(record.steps, record.optima, "--", color=INK["exact"], lw=1.3, label=best)
    axes.plot(record.steps, record.values, color=INK["trained"], lw=1.3, label="V(D, G) as played")
    axes.axhline(-math.log(4), color="#999999", lw=0.8)
    where = (1.005, -math.log(4))
    axes.annotate("$-\\log 4$", where, xycoords=("axes fraction", "data"), va="center")
    axes.set(xlabel="steps of the generator", ylabel="value", xlim=(0, record.steps[-1]))
    axes.legend(frameon=False, loc="upper right")


def draw(record: Record, referee: Referee, title: str, out: Path) -> None:
    """The whole picture."""
    figure = Figure(figsize=(12, 8.6), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=(2.5, 1))
    top, bottom = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    panels = top.subplots(2, len(record.moments), sharex=True, sharey="row", squeeze=False)
    for column, moment in zip(panels.T, record.moments, strict=True):
        draw_moment(column[0], column[1], referee, moment)
    panels[0, 0].set(ylabel="density", ylim=(0, None))
    panels[1, 0].set(ylabel="D(x), how real x looks")
    named = [h for axes in panels[:, 0] for h in axes.get_legend_handles_labels()[0]]
    top.legend(handles=named, frameon=False, loc="outside upper center", ncols=len(named))
    draw_value(bottom.subplots(), record)
    figure.suptitle(title, fontsize=15)
    figure.savefig(out, dpi=110)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("two_player_game.png"), help="the PNG")
    parser.add_argument("--steps", type=int, default=1500, help="moves of the generator")
    parser.add_argument("--loss", choices=("non-saturating", "minimax"), default="non-saturating",
                        help="what G minimises; D plays the same against both")  # fmt: skip
    parser.add_argument("--data", choices=sorted(DATA), default="mixture", help="p_data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps {arguments.steps}: the game needs at least one move")
    return arguments


def main() -> None:
    """Play, print, draw."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # the networks are too small to share out
    data = DATA[arguments.data]
    referee = Referee(data)
    record = play(Game(data, LOSSES.get(arguments.loss)), referee, arguments.steps)
    title = f"The two-player game in one dimension ({arguments.loss} loss)"
    draw(record, referee, title, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
