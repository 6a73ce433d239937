"""The quantised autoencoder: its codes, its two phases, and sampling by the command line."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Finished, gentool_command
from PIL import Image
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms
from gentool.models.quantised.model import QuantisedAutoencoder
from gentool.models.quantisers.base import Quantiser

CPU = torch.device("cpu")
SHAPE = ImageShape(16, 16, 3)


def tiny(classes: int = 0, **options: object) -> QuantisedAutoencoder:
    """A model of few weights that are the same in every test, in eval mode."""
    plain = QuantisedAutoencoder.Config(width=4, layers=1, codes=64, latent_size=3)
    config = replace(plain, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return QuantisedAutoencoder(config, SHAPE, classes).eval()


def images(count: int) -> torch.Tensor:
    """Uniform noise, (count, 3, 16, 16)."""
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_images_become_codes_and_codes_images(quantiser: str) -> None:
    model = tiny(quantiser=quantiser)
    latents = model.encode(images(2))
    quantised = model.codec.encode(images(2))
    torch.testing.assert_close(
        latents.view_as(quantised.vectors), model.codec.quantiser.embed(quantised.indices)
    )
    assert model.decode(latents).shape == (2, 3, 16, 16)
    assert latents.shape == model.prior(np.arange(2), 0).shape


def test_the_prior_draws_codes_only() -> None:
    model = tiny()
    vectors = model.prior(np.arange(4), 1).view(4, 3, *model.size)
    codes = model.codec.quantiser.embed(torch.arange(model.codec.quantiser.words)[:, None, None])
    known = {tuple(c) for c in codes.flatten(1).tolist()}
    assert {tuple(v) for v in vectors.movedim(1, -1).flatten(0, 2).tolist()} <= known


def test_the_two_spans_meet_and_train_what_they_should() -> None:
    model = tiny(prior_share=0.3)
    spans = {p.name: p.span for p in model.phases()}
    assert spans["codes"] == spans["discriminator"] == (0.0, 0.7)
    assert spans["prior"] == (0.7, 1.0)
    *_, prior = model.phases()
    total = prior.loss(Batch(images(2)), Draw(0, "prior", np.arange(2), 0, CPU)).total.sum()
    total.backward()  # type: ignore[no-untyped-call]
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved
    assert all(name.startswith("transformer.") for name in moved)


def test_the_transformer_learns_by_the_likelihood_of_the_images_own_codes() -> None:
    model = tiny(corruption=0.0)
    *_, prior = model.phases()
    terms = prior.loss(Batch(images(3)), Draw(0, "prior", np.arange(3), 0, CPU))
    codes = model.codec.encode(images(3)).indices.flatten(1)
    logits = model.transformer.net(codes, None).log_softmax(dim=2)
    naive = [-sum(logits[b, t, c] for t, c in enumerate(row)) for b, row in enumerate(codes)]
    torch.testing.assert_close(terms.total, torch.stack(naive))
    torch.testing.assert_close(terms.parts["nats_per_code"], terms.total / codes.shape[1])


def test_replaced_codes_are_only_what_is_seen_of_the_past() -> None:
    """With every past code replaced, the loss is still that of the true ones."""
    draw = Draw(0, "prior", np.arange(3), 0, CPU)
    clean, noisy = (
        tiny(corruption=c).phases()[-1].loss(Batch(images(3)), draw).total for c in (0.0, 0.9)
    )
    assert not torch.allclose(clean, noisy)
    torch.testing.assert_close(clean, noisy, rtol=0.2, atol=0)  # of a transformer at its start


def test_classes_are_drawn_as_often_as_in_the_data() -> None:
    model = tiny(classes=3)
    labels = torch.tensor([0] * 6 + [2] * 2)
    model.finish(lambda: iter([Batch(images(8), labels)]))
    assert model.transformer.class_shares.tolist() == [0.75, 0.0, 0.25]
    drawn = model.transformer.draw_labels(torch.arange(100) / 100)
    assert drawn is not None
    assert torch.bincount(drawn, minlength=3).tolist() == [75, 0, 25]


def test_the_loss_is_the_error_the_tail_and_the_commitment() -> None:
    model, x = tiny(quantiser="vq"), images(3)
    model.begin(lambda: iter([Batch(x)]))
    terms = model.phases()[0].loss(Batch(x), Draw(0, "codes", np.arange(3), 1, CPU, 0.3))
    found = model.codec.encode(x)
    output = model.codec.decode(found.vectors)
    error = (output - x).abs().mean(dim=(1, 2, 3))
    more = model.tail.sharpen(x, output, error, 0.5)  # half of its span of 0.6
    assert (found.loss > 1e-4).all()
    torch.testing.assert_close(terms.total, error + more.total + found.loss, rtol=1e-5, atol=0)
    assert not model.tail.sharpen(x, output, error, 0.1).total.equal(more.total)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(64, 64, (8, 8)), (95, 95, (11, 11)), (96, 96, (12, 12)), (96, 128, (12, 16)),
     (128, 128, (16, 16)), (256, 256, (16, 16)), (512, 256, (32, 16))],
)  # fmt: skip
def test_larger_images_have_more_codes(height: int, width: int, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = QuantisedAutoencoder(
            QuantisedAutoencoder.Config(width=4), ImageShape(height, width, 3)
        )
    assert model.size == size


@pytest.mark.parametrize("size", [64, 256])
def test_a_codebook_begins_at_256_images_however_they_come(size: int) -> None:
    x = torch.rand(512, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for parts in (torch.split(x, size), [x[:256]]):
        model = tiny(quantiser="vq")
        model.begin(lambda parts=parts: iter([Batch(part) for part in parts]))  # type: ignore[misc]
        found.append(model.state_dict())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_a_step_of_every_phase_at_256(quantiser: str) -> None:
    shape = ImageShape(256, 256, 3)
    config = QuantisedAutoencoder.Config(width=2, layers=1, codes=64, quantiser=quantiser)
    model = QuantisedAutoencoder(config, shape)
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.begin(lambda: iter([Batch(x)]))
    for phase in model.phases():
        terms = phase.loss(Batch(x), Draw(0, phase.name, np.arange(1), 0, CPU, 0.5))
        terms.total.sum().backward()  # type: ignore[no-untyped-call]
        assert terms.total.isfinite().all()
    assert model.encode(x).shape == (1, model.codec.quantiser.size * 256)
    assert model.decode(model.encode(x)).shape == x.shape


def codes_loss(model: QuantisedAutoencoder, x: torch.Tensor, indices: list[int]) -> LossTerms:
    """The terms of the first phase on images of these numbers."""
    draw = Draw(0, "codes", np.array(indices), 1, CPU)
    return model.phases()[0].loss(Batch(x), draw)


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_a_step_logs_how_evenly_the_codes_of_its_images_are_used(quantiser: str) -> None:
    model, x = tiny(quantiser=quantiser), images(3)
    counts = Counter(model.codec.encode(x).indices.flatten().tolist())
    assert 1 < len(counts) < 64 == model.codec.quantiser.words
    shares = [count / counts.total() for count in counts.values()]
    parts = codes_loss(model, x, [0, 1, 2]).parts
    evenness = math.exp(-sum(share * math.log(share) for share in shares))
    assert parts["perplexity"].tolist() == pytest.approx([evenness] * 3, rel=1e-4)
    assert parts["code_usage"].tolist() == pytest.approx([len(counts) / 64] * 3)


class _Says(nn.Module):
    """An encoder that says these codes (B, h, w), whatever the images."""

    def __init__(self, codes: torch.Tensor, codebook: Quantiser) -> None:
        super().__init__()
        self.grid = codebook.embed(codes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The vectors of the codes."""
        return self.grid


@pytest.mark.parametrize(
    ("codes", "numbers", "perplexity", "usage"),
    [
        (torch.full((2, 64), 5), [0, 1], 1, 1 / 100),
        (torch.arange(64).expand(2, 64), [0, 1], 64, 64 / 100),
        (torch.arange(192) % 96, [0, 1, 2], 96, 96 / 100),
        (torch.arange(64).expand(2, 64), [7, 7], 64, 1),  # one image has no more places
        (torch.arange(64) % 4, [0], 4, 4 / 64),
    ],
    ids=["one", "a part", "most", "an image twice", "four evenly"],
)
def test_one_code_has_a_perplexity_of_1_and_codes_used_evenly_their_number(
    codes: torch.Tensor, numbers: list[int], perplexity: int, usage: float
) -> None:
    """Usage is of 100 codes, or of as many as there are places: 64 in an image."""
    model = tiny(quantiser="vq", codes=100)
    said = codes.view(len(numbers), 8, 8)
    model.codec.encoder = _Says(said, model.codec.quantiser)  # type: ignore[assignment]
    parts = codes_loss(model, images(len(numbers)), numbers).parts
    assert parts["code_usage"].tolist() == pytest.approx([usage] * len(numbers))
    assert parts["perplexity"].tolist() == pytest.approx([perplexity] * len(numbers), rel=1e-4)


def test_a_collapse_of_the_codes_is_told_late_enough() -> None:
    model = tiny()
    assert model.advice.health({"share": 0.1, "code_usage": 0.0}) is None
    assert model.advice.health({"share": 0.4, "code_usage": 0.5}) is None
    assert "codes have collapsed" in (model.advice.health({"share": 0.4, "code_usage": 0.01}) or "")
    assert model.advice.health({"share": 0.9}) is None  # the transformer's span counts no codes


# --- on the command line ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fsq(trained: Callable[[str], Path]) -> Path:
    """Run folder of a tiny model."""
    return trained("fsq")


def sample(model: Path, out: Path, *more: object) -> tuple[Finished, np.ndarray]:
    """Eight samples as uint8 arrays."""
    done = gentool_command("sample", model, "-n", 8, "-o", out / "s.npz", "--overwrite", *more)
    assert done.code == 0, done.err
    with np.load(out / "s.npz") as arrays:
        return done, next(iter(arrays.values()))


def test_temperature_and_cuts_change_the_samples_and_one_code_leaves_no_variety(
    fsq: Path, tmp_path: Path
) -> None:
    _, plain = sample(fsq, tmp_path)
    _, same = sample(fsq, tmp_path, "--temperature", 1, "--top-k", 0, "--top-p", 1)
    assert np.array_equal(plain, same)
    for option in (("--temperature", 0.5), ("--top-k", 2), ("--top-p", 0.3)):
        assert not np.array_equal(plain, sample(fsq, tmp_path, *option)[1]), option
    _, one = sample(fsq, tmp_path, "--top-k", 1)
    _, cold = sample(fsq, tmp_path, "--temperature", 0.01)
    assert (one == one[:1]).all()
    assert np.array_equal(cold, one)


def test_what_has_no_effect_on_the_likeliest_code_is_refused(fsq: Path, tmp_path: Path) -> None:
    for option in (("--temperature", 0.5), ("--top-p", 0.3)):
        done = gentool_command("sample", fsq, "--top-k", 1, *option, "-o", tmp_path / "a.png")
        assert done.code == 2
        assert "has no effect: with top_k=1 the most probable code is always drawn" in done.err


def test_a_truncation_is_refused_with_what_there_is(fsq: Path, tmp_path: Path) -> None:
    done = gentool_command("sample", fsq, "--truncation", 0.5, "-o", tmp_path / "a.png")
    assert done.code == 2
    assert "it has temperature, top-k, top-p. Leave --truncation out" in done.err


def test_reconstruct_interpolate_and_evaluate(
    fsq: Path, image_folder: Path, tmp_path: Path
) -> None:
    photos = sorted(image_folder.rglob("*.png"))[:2]
    done = gentool_command("reconstruct", fsq, *photos, "-o", tmp_path / "r.png")
    assert done.code == 0, done.err
    strip = tmp_path / "i.png"
    done = gentool_command("interpolate", fsq, *photos, "--steps", 4, "-o", strip)
    assert done.code == 0, done.err
    with Image.open(strip) as picture:
        assert picture.width > 4 * 16
    done = gentool_command(
        "evaluate", fsq, "--data", image_folder, "-n", 32, "--features", "random", "--json"
    )
    assert done.code == 0, done.err
    assert "prior gap" in json.dumps(json.loads(done.out))
