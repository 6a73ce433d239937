"""Augmentations: second derivatives, no change at p = 0, known results, adaptive strength."""

import math

import numpy as np
import pytest
import torch

from gentool.core.rng import Draw
from gentool.models.affine import compose, quarter_turns, rotation, scaling, translation, warp
from gentool.models.augmentation import (
    AUGMENTATIONS,
    AdaptiveProbability,
    open_augmentation,
    to_normal,
)

HALF = 0.5  # the middle of a uniform number: no shift, no turn, factor 1


def _images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _numbers(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize(
    "channels", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))]
)
def test_first_and_second_derivatives_are_right(name: str, channels: int) -> None:
    augment = AUGMENTATIONS.get(name)
    images = _images(2, channels, 3, 4).double().requires_grad_(True)
    numbers = _numbers(2, augment.size, 3)

    def function(x: torch.Tensor) -> torch.Tensor:
        return augment(x, numbers)

    assert torch.autograd.gradcheck(function, images)
    assert torch.autograd.gradgradcheck(function, images)
    # Not linear in the end: a penalty's gradient flows back through the augmentation.
    assert torch.autograd.gradgradcheck(lambda x: function(x).sin(), images)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize("p", [0.0, torch.tensor(0.0)])
def test_probability_zero_changes_no_bit(name: str, p: float | torch.Tensor) -> None:
    augment = AUGMENTATIONS.get(name)
    for channels in (1, 3, 4):
        images = _images(4, channels, 20, 32)
        assert torch.equal(augment(images, _numbers(4, augment.size), p), images)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_an_image_is_augmented_by_its_own_numbers(name: str) -> None:
    augment = AUGMENTATIONS.get(name)
    images, numbers = _images(6, 3, 16, 20), _numbers(6, augment.size)
    together = augment(images, numbers)
    assert together.shape == images.shape
    assert not torch.equal(together, images)
    for i in range(6):
        alone = augment(images[i : i + 1], numbers[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])
    last = augment(images.to(memory_format=torch.channels_last), numbers)
    torch.testing.assert_close(last, together)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_half_precision_around_it_does_not_move_pixels(name: str) -> None:
    augment = AUGMENTATIONS.get(name)
    images, numbers = _images(4, 3, 64, 64), _numbers(4, augment.size)
    with torch.autocast("cpu", torch.bfloat16):
        inside = augment(images, numbers)
    assert torch.equal(inside, augment(images, numbers))


@pytest.mark.parametrize("name", ["colour", "ada-colour"])
def test_alpha_keeps_its_values_where_only_colours_change(name: str) -> None:
    augment = AUGMENTATIONS.get(name)
    images, numbers = _images(4, 4, 16, 16), _numbers(4, augment.size)
    changed = augment(images, numbers)
    assert torch.equal(changed[:, 3], images[:, 3])
    torch.testing.assert_close(changed[:, :3], augment(images[:, :3], numbers))


def test_alpha_moves_with_the_picture() -> None:
    images = _images(4, 1, 16, 16).expand(-1, 4, -1, -1)
    for name in ("flip", "crop", "translation", "cutout", "ada-geometry"):
        augment = AUGMENTATIONS.get(name)
        changed = augment(images, _numbers(4, augment.size))
        assert torch.equal(changed[:, 3], changed[:, 0])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_which_keep_grey_levels_is_said(name: str, channels: int) -> None:
    augment = AUGMENTATIONS.get(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, channels, 20, 17), generator=generator) / 127.5 - 1
    moved = augment(images, _numbers(40, augment.size))
    assert not torch.equal(moved, images)
    assert bool(torch.isin(moved, images).all()) == augment.keeps_levels
    assert open_augmentation(f"flip+{name}").keeps_levels == augment.keeps_levels


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 7\), not \(2, 10\)"):
        AUGMENTATIONS.get("diffaugment")(_images(2, 3, 16, 16), _numbers(2, 7))


def test_a_list_of_names_is_one_after_the_other() -> None:
    images = _images(3, 3, 16, 16)
    both = open_augmentation("flip+cutout")
    numbers = _numbers(3, both.size)
    flipped = AUGMENTATIONS.get("flip")(images, numbers[:, :2])
    expected = AUGMENTATIONS.get("cutout")(flipped, numbers[:, 2:])
    assert torch.equal(both(images, numbers), expected)


# --- known results --------------------------------------------------------------------------


def test_flip_mirrors_every_other_image() -> None:
    images = _images(2, 3, 16, 20)
    numbers = torch.tensor([[0.3, 0.2], [0.3, 0.7]])
    out = AUGMENTATIONS.get("flip")(images, numbers)
    assert torch.equal(out[0], images[0])
    assert torch.equal(out[1], images[1].flip(2))


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("side", [16, 17])
def test_quarter_turns_are_those_of_rot90(count: int, side: int) -> None:
    images = _images(2, 3, side, side)
    turned = warp(images, quarter_turns(torch.full((2,), float(count))), nearest=True)
    assert torch.equal(turned, torch.rot90(images, count, (2, 3)))
    smooth = warp(images, rotation(torch.full((2,), count * math.pi / 2)))
    torch.testing.assert_close(smooth, turned, atol=1e-4, rtol=0)


def _mirrored(index: int, size: int) -> int:
    """Where a position beyond the edge is read, step by step."""
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 4), (40, 70)])
def test_translation_reads_the_mirror_image_beyond_the_edge(shift: tuple[int, int]) -> None:
    x, y = shift
    image = _images(1, 2, 6, 9)
    moved = warp(image, translation(torch.tensor([float(x)]), torch.tensor([float(y)])))
    for i in range(6):
        for j in range(9):
            expected = image[0, :, _mirrored(i - y, 6), _mirrored(j - x, 9)]
            torch.testing.assert_close(moved[0, :, i, j], expected)


def test_the_published_translation_is_an_eighth_of_a_side() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 32, 64)
    augment = AUGMENTATIONS.get("translation")
    for u, shift in ((0.0, -8), (HALF, 0), (1 - 2**-24, 8)):
        moved = augment(ramp, torch.tensor([[0.0, u, HALF]]))
        assert moved[0, 0, 0, 30] == 30 - shift


def test_a_turn_there_and_back_is_no_turn() -> None:
    y, x = torch.meshgrid(torch.linspace(-3, 3, 33), torch.linspace(-3, 3, 33), indexing="ij")
    smooth = torch.exp(-(x**2) - (y - 0.5) ** 2)[None, None]
    angle = torch.tensor([0.7])
    back = warp(warp(smooth, rotation(angle)), rotation(-angle))
    inside = (..., slice(6, 27), slice(6, 27))  # corners leave the picture and come back mirrored
    torch.testing.assert_close(back[inside], smooth[inside], atol=0.03, rtol=0)
    # Counter-clockwise, as seen: what lay below the centre (y down) moves to the right.
    turned = warp(smooth, rotation(torch.tensor([math.pi / 2])))
    assert (turned * x).sum() > 0.1
    torch.testing.assert_close((turned * y).sum(), torch.tensor(0.0), atol=1e-3, rtol=0)


def test_scaling_enlarges_about_the_centre() -> None:
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    doubled = warp(ramp, scaling(torch.tensor([2.0]), torch.tensor([1.0])))
    torch.testing.assert_close(doubled[0, 0, 0], 4 + (torch.arange(9.0) - 4) / 2)


def test_maps_compose_from_left_to_right() -> None:
    image = _images(1, 1, 17, 17)
    shift = translation(torch.tensor([2.0]), torch.tensor([0.0]))
    turn = quarter_turns(torch.ones(1))
    torch.testing.assert_close(
        warp(image, compose(shift, turn)), torch.rot90(warp(image, shift), 1, (2, 3))
    )


def test_crop_keeps_the_corner_that_it_is_told_to() -> None:
    image = _images(1, 3, 16, 16)
    augment = AUGMENTATIONS.get("crop")
    whole = augment(image, torch.tensor([[0.0, 0.0, 0.9, 0.1]]))
    torch.testing.assert_close(whole, image)
    corner = augment(image, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(corner[..., 0, 0], image[..., 0, 0], atol=1e-5, rtol=0)


def test_cutout_removes_a_quarter() -> None:
    ones = torch.ones(1, 4, 16, 24)
    cut = AUGMENTATIONS.get("cutout")(ones, torch.tensor([[0.0, HALF, HALF]]))
    assert (cut == 0).float().mean() == 0.25
    assert (cut[:, :, 4:12, 6:18] == 0).all()
    edge = AUGMENTATIONS.get("cutout")(ones, torch.tensor([[0.0, 0.0, 0.0]]))
    assert (edge == 0).float().mean() == 0.0625  # a quarter of the rectangle hangs inside


def test_diffaugments_colours_are_the_papers() -> None:
    image = _images(1, 3, 5, 6)
    augment = AUGMENTATIONS.get("colour")
    brighter = augment(image, torch.tensor([[0.0, 0.9, HALF, HALF]]))
    torch.testing.assert_close(brighter, image + 0.4)
    grey = augment(image, torch.tensor([[0.0, HALF, 0.0, HALF]]))
    torch.testing.assert_close(grey, image.mean(dim=1, keepdim=True).expand_as(image))
    flat = augment(image, torch.tensor([[0.0, HALF, HALF, 0.0]]))
    torch.testing.assert_close(flat, (image + image.mean()) / 2)


def _colour_numbers(**given: float) -> torch.Tensor:
    """Numbers of ``ada-colour``: steps that are not named have their gate shut at p = 0.5."""
    row = []
    for name in ("brightness", "contrast", "luma", "hue", "saturation"):
        row += [0.0 if name in given else 0.9, given.get(name, HALF)]
    return torch.tensor([row])


def test_adas_colours_are_known_maps() -> None:
    image = _images(1, 3, 4, 4)
    augment = AUGMENTATIONS.get("ada-colour")

    def apply(**given: float) -> torch.Tensor:
        return augment(image, _colour_numbers(**given), 0.5)

    assert torch.equal(apply(), image)
    above = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # one standard deviation
    torch.testing.assert_close(apply(brightness=above), image + 0.2, atol=1e-4, rtol=0)
    torch.testing.assert_close(apply(contrast=above), image * 2**0.5, atol=1e-4, rtol=0)
    grey = image.mean(dim=1, keepdim=True)
    torch.testing.assert_close(apply(luma=0.9), image - 2 * grey)
    torch.testing.assert_close(
        apply(saturation=above), grey + 2 * (image - grey), atol=1e-4, rtol=1e-4
    )
    # A third of a turn about the grey axis passes the colours on: red to green to blue.
    torch.testing.assert_close(apply(hue=HALF + 1 / 3), image[:, [2, 0, 1]], atol=1e-5, rtol=0)


def test_a_grey_image_is_treated_as_equal_colours() -> None:
    grey = _images(4, 1, 8, 8)
    for name in ("ada-colour", "colour"):
        augment = AUGMENTATIONS.get(name)
        numbers = _numbers(4, augment.size)
        coloured = augment(grey.expand(-1, 3, -1, -1), numbers)
        for channel in range(3):
            torch.testing.assert_close(coloured[:, channel : channel + 1], augment(grey, numbers))


def test_uneven_pictures_are_not_laid_on_their_side() -> None:
    augment = AUGMENTATIONS.get("ada-geometry")
    image = _images(1, 1, 16, 24)
    for turns, expected in ((0.1, image), (0.4, image), (0.6, image.flip(2, 3))):
        numbers = torch.full((1, augment.size), 0.9)
        numbers[0, :2] = torch.tensor([0.0, turns])
        torch.testing.assert_close(augment(image, numbers, 0.1), expected)


def test_gates_open_with_probability_p() -> None:
    augment = AUGMENTATIONS.get("translation")
    images = _images(1, 1, 16, 16).expand(4000, -1, -1, -1)
    numbers = _numbers(4000, augment.size)
    numbers[:, 1] = 0.0
    changed = (augment(images, numbers, 0.3) != images).flatten(1).any(dim=1)
    assert abs(changed.float().mean().item() - 0.3) < 0.03


def test_uniform_numbers_become_normal() -> None:
    z = to_normal(torch.linspace(0, 1 - 2**-24, 20001))
    assert z.isfinite().all()
    assert abs(z.mean().item()) < 1e-2
    assert abs(z.std().item() - 1) < 1e-2


# --- randomness by sample index -------------------------------------------------------------


def test_a_step_of_uniform_numbers_is_looked_up_by_index() -> None:
    def draw(start: int, count: int) -> Draw:
        return Draw(3, "critic", np.arange(start, start + count), 0, torch.device("cpu"))

    rows = draw(0, 10).uniform("augment", 7)
    assert rows.shape == (10, 7)
    assert rows.dtype == torch.float32
    assert torch.equal(draw(4, 3).uniform("augment", 7), rows[4:7])
    assert not torch.equal(draw(0, 10).uniform("other", 7), rows)
    many = draw(0, 20000).uniform("augment", 4)
    assert (many >= 0).all()
    assert (many < 1).all()
    assert abs(many.mean().item() - 0.5) < 5e-3
    assert draw(0, 2).uniform("noise", 3, 4).shape == (2, 3, 4)


# --- the controller -------------------------------------------------------------------------


def _simulate(controller: AdaptiveProbability, offset: float, steps: int) -> list[float]:
    """A discriminator whose r_t falls as p rises: r_t = 0.9 - 0.8 p in the mean."""
    generator = torch.Generator().manual_seed(0)
    history = []
    for step in range(steps):
        share = 0.5 + (0.9 - 0.8 * controller.p.item()) / 2
        won = torch.rand(64, generator=generator) < share
        real = torch.where(won, 1.0, -1.0)
        if offset:
            controller.update(step, real + offset, -real.mean() + torch.zeros(64) + offset)
        else:
            controller.update(step, real)
        history.append(controller.p.item())
    return history


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_p_settles_where_r_t_is_on_target(offset: float) -> None:
    history = _simulate(AdaptiveProbability(images=20_000), offset, 800)
    settled = np.mean(history[-200:])
    assert abs(settled - (0.9 - 0.6) / 0.8) < 0.05


def test_p_moves_at_the_stated_speed_and_stops_at_its_limits() -> None:
    controller = AdaptiveProbability(images=6400, limit=0.5, interval=4)
    sure, lost = torch.ones(64), -torch.ones(64)
    for step in range(3):
        controller.update(step, sure)
    assert controller.p == 0
    controller.update(3, sure)
    assert controller.p.item() == pytest.approx(4 * 64 / 6400)
    assert controller.overfit == 1
    for step in range(4, 200):
        controller.update(step, sure)
    assert controller.p == 0.5
    for step in range(200, 400):
        controller.update(step, lost)
    assert controller.p == 0


def test_the_controller_goes_on_from_its_state() -> None:
    first, second = AdaptiveProbability(), AdaptiveProbability()
    logits = torch.randn(30, 16, generator=torch.Generator().manual_seed(0)) + 1
    for step in range(6):  # not a multiple of the interval
        first.update(step, logits[step])
    second.load_state_dict(first.state_dict())
    for step in range(6, 30):
        for controller in (first, second):
            controller.update(step, logits[step])
    assert torch.equal(first.p, second.p)
    assert first.p > 0


def test_the_published_speed_is_the_default() -> None:
    controller = AdaptiveProbability()
    assert (controller.images, controller.target, controller.interval) == (500_000, 0.6, 4)
