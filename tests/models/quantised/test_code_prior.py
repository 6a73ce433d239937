"""Sampling of codes: temperature, top-k and top-p, inversion, caching, and a known source."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from gentool.models.priors import choose
from gentool.models.quantised.code_prior import CodePrior, Drawing, keep_likeliest

PLAIN = Drawing()


def logits(rows: int = 5, words: int = 12) -> torch.Tensor:
    """Random ones."""
    return 2 * torch.randn(rows, words, generator=torch.Generator().manual_seed(0))


def prior(words: int = 6, length: int = 7, classes: int = 0) -> CodePrior:
    """A small one with reproducible weights, large enough to tell codes apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = CodePrior(words, length, 16, 2, classes).eval()
        for parameter in made.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def test_temperature_divides_the_logits() -> None:
    found = keep_likeliest(logits(), Drawing(temperature=0.5))
    torch.testing.assert_close(found, (2 * logits()).softmax(dim=1))


@pytest.mark.parametrize("k", [1, 3, 12, 50])
def test_top_k_keeps_the_k_likeliest(k: int) -> None:
    found = keep_likeliest(logits(), Drawing(top_k=k))
    for row, given in zip(found, logits().softmax(dim=1), strict=True):
        best = sorted(range(12), key=lambda i: -float(given[i]))[:k]
        assert set(row.nonzero().flatten().tolist()) == set(best)
        torch.testing.assert_close(row[best], given[best])


@pytest.mark.parametrize("p", [0.001, 0.3, 0.8, 0.999])
def test_top_p_keeps_the_smallest_set_with_that_share(p: float) -> None:
    found = keep_likeliest(logits(), Drawing(top_p=p))
    for row, given in zip(found, logits().softmax(dim=1), strict=True):
        kept, mass = [], 0.0
        for i in sorted(range(12), key=lambda i: -float(given[i])):
            if mass >= p:
                break
            kept.append(i)
            mass += float(given[i])
        assert set(row.nonzero().flatten().tolist()) == set(kept)


def test_inversion_against_a_naive_loop_and_never_draws_what_cannot_occur() -> None:
    weights = keep_likeliest(logits(200), Drawing(top_k=4)) * 0.37  # need not sum to one
    generator = torch.Generator().manual_seed(1)
    numbers = torch.rand(200, generator=generator)
    numbers[:3] = torch.tensor([0.0, 1 - 2.0**-24, 0.5])
    found = choose(weights, numbers)
    assert (weights.gather(1, found[:, None]) > 0).all()
    for row, u, index in zip(weights.double(), numbers.double(), found.tolist(), strict=True):
        below, expected = 0.0, -1
        for weight in (row / row.sum()).tolist():
            below, expected = below + weight, expected + 1
            if below > float(u) - 1e-7:
                break
        assert index == expected or abs(below - float(u)) < 1e-6


def test_draws_have_the_frequencies_of_the_probabilities() -> None:
    weights = logits(1).softmax(dim=1)
    numbers = (torch.arange(100_000) + 0.5) / 100_000
    shares = one_hot(choose(weights.expand(100_000, -1), numbers), 12).double().mean(dim=0)
    torch.testing.assert_close(shares, weights[0].double(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("drawing", [PLAIN, Drawing(0.7, 4, 0.9)], ids=["plain", "cut"])
def test_cached_sampling_equals_uncached(classes: int, drawing: Drawing) -> None:
    model = prior(classes=classes)
    labels = torch.arange(20) % 3 if classes else None
    numbers = torch.rand(20, 7, generator=torch.Generator().manual_seed(2))
    codes = torch.zeros(20, 7, dtype=torch.int64)
    with torch.no_grad():
        for t in range(7):  # the whole network anew for every code
            weights = keep_likeliest(model.net(codes, labels)[:, t], drawing)
            codes[:, t] = choose(weights, numbers[:, t])
        assert torch.equal(model.draw(numbers, labels, drawing), codes)
    assert len({tuple(row) for row in codes.tolist()}) > 3


def test_classes_are_drawn_as_often_as_in_the_data() -> None:
    model = prior(classes=3)
    model.class_shares.copy_(torch.tensor([0.5, 0.0, 0.5]))
    drawn = model.draw_labels((torch.arange(1000) + 0.5) / 1000)
    assert drawn is not None
    assert torch.bincount(drawn, minlength=3).tolist() == [500, 0, 500]
    assert prior().draw_labels(torch.zeros(3)) is None


def test_the_nll_is_the_sum_of_the_codes_surprises() -> None:
    model, codes = prior(), torch.randint(6, (4, 7), generator=torch.Generator().manual_seed(0))
    log_p = model.net(codes).detach().log_softmax(dim=2)
    naive = [-sum(float(log_p[b, t, codes[b, t]]) for t in range(7)) for b in range(4)]
    np.testing.assert_allclose(model.nll(codes, None).detach(), naive, rtol=1e-5)
    seen = codes.clone()
    seen[:, -1] = 0  # nothing comes after the last
    assert torch.equal(model.nll(codes, None), model.nll(codes, None, seen))


def test_a_deterministic_source_is_learned_and_drawn() -> None:
    """Each class counts from a start of its own: the surprise goes to zero."""
    model = prior(classes=3).train()
    labels = torch.arange(30) % 3
    codes = (2 * labels[:, None] + torch.arange(7)) % 6
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        model.nll(codes, labels).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    numbers = torch.rand(30, 7, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert float(model.nll(codes, labels).max()) < 0.05
        drawn = model.draw(0.98 * numbers + 0.01, labels, PLAIN)
    assert torch.equal(drawn, codes)
