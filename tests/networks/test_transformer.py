"""The transformer: causality, caching, classes, and valid probabilities."""

from itertools import product

import pytest
import torch

from gentool.networks.transformer import Transformer


def network(words: int = 11, length: int = 9, classes: int = 0) -> Transformer:
    """A small one whose weights are large enough for every token to count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Transformer(words, length, 16, 2, classes).eval()
        for parameter in net.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return net


def tokens(rows: int = 4, words: int = 11, length: int = 9) -> torch.Tensor:
    """Random sequences."""
    return torch.randint(words, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("place", range(9))
def test_changing_a_token_changes_the_logits_after_it_and_none_before(place: int) -> None:
    net, indices = network(), tokens()
    changed = indices.clone()
    changed[:, place] = (changed[:, place] + 1) % 11
    a, b = net(indices), net(changed)
    assert torch.equal(a[:, : place + 1], b[:, : place + 1])
    if place < 8:
        assert ((a - b)[:, place + 1 :].abs().amax(dim=(0, 2)) > 1e-4).all()


@pytest.mark.parametrize("classes", [0, 3])
def test_logits_by_cached_steps_are_those_of_the_whole_sequence(classes: int) -> None:
    net, indices = network(classes=classes), tokens()
    labels = torch.tensor([0, 1, 2, 0]) if classes else None
    whole = net(indices, labels)
    caches, token = net.caches(4), net.start(4, labels)
    for t in range(9):
        torch.testing.assert_close(net.step(token, caches), whole[:, t], atol=1e-5, rtol=1e-5)
        token = net.embedding(indices[:, t])


def test_the_probabilities_of_all_sequences_sum_to_one() -> None:
    net = network(words=5, length=3)
    every = torch.tensor(list(product(range(5), repeat=3)))
    log_p = net(every).detach().log_softmax(dim=2).gather(2, every[:, :, None]).sum(dim=(1, 2))
    assert float(log_p.double().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_the_class_changes_the_first_logits_already_and_is_asked_for() -> None:
    net, indices = network(classes=2), tokens()
    a, b = (net(indices, torch.full((4,), k)) for k in range(2))
    assert (a - b)[:, 0].abs().max() > 1e-3
    with pytest.raises(ValueError, match="2 classes needs labels"):
        net(indices)


@pytest.mark.parametrize("channels", [8, 33, 96])
def test_heads_divide_any_width(channels: int) -> None:
    net = Transformer(7, 4, channels, 1)
    assert channels % net.heads == 0
    assert net(tokens(2, 7, 4)).shape == (2, 4, 7)
