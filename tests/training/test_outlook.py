"""What a run says about itself: the budget, the figure of the bar, and the end."""

import pytest

from gentool.core.progress_bar import bar_width, clock, first_that_fits, room_for_text
from gentool.models.presets import FEWEST_SEEN, PRESETS, usual_images
from gentool.training.outlook import (
    Measured,
    about_time,
    budget_words,
    figure_of,
    length_words,
    pace_words,
    read_measured,
    score_words,
    status_lines,
)

_SCORE = "FD-random 0.441, lower is better", "FD-random 0.441"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 second"), (42, "about 42 seconds"), (200, "about 3 minutes"),
     (5400, "about 90 minutes"), (9000, "about 2.5 hours"), (10**6, "about 278 hours")],
)  # fmt: skip
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert about_time(seconds) == words


def test_the_budget_in_images_and_in_minutes() -> None:
    assert budget_words(200_000, None) == "200,000 images"
    assert budget_words(None, 1.0) == "1 minute"
    assert budget_words(None, 2.5) == "2.5 minutes"
    told = pace_words(200_000, None, 1000, 780, 251)
    assert told == "200,000 images, about 13 minutes more at 251 images/s"
    told = pace_words(None, 10.0, 217, 590, 22.1)
    assert told == "10 minutes, about 13,000 images at 22.1 images/s"
    assert pace_words(None, 1.0, 0, 10, 0.02).endswith("about 1 images at 0.02 images/s")


def test_the_figure_is_the_score_where_there_is_one() -> None:
    assert figure_of(None, None) == ("", "")
    assert figure_of(None, 24.06) == ("PSNR 24.1 dB, higher is better", "PSNR 24.1 dB")
    assert figure_of(0.4414, 24.06) == _SCORE


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_longer_than_the_terminal(columns: int) -> None:
    room = room_for_text(columns)
    assert room + bar_width(columns) + len(" 100% ") == columns
    lines = status_lines(12_345_678, 12_345.6, 36_754, _SCORE, "d_loss 0.6931  g_loss 0.7112")
    shown = first_that_fits(lines, room)
    assert len(shown) <= room
    assert bool(shown) == (columns > 26)


def test_a_line_of_80_characters_has_speed_time_and_score() -> None:
    lines = status_lines(82_345, 1234.4, 4521.7, _SCORE, "d_loss 0.6931  g_loss 0.7112")
    told = "1,234 images/s  1:15:22 left  FD-random 0.441, lower is better"
    assert first_that_fits(lines, room_for_text(80)) == told
    assert first_that_fits(lines, room_for_text(120)) == f"82,345 images  {told}"
    assert first_that_fits(lines, room_for_text(160)).endswith("g_loss 0.7112")


def test_what_is_not_known_is_left_out() -> None:
    assert status_lines(64, None, None, ("", ""), "")[0] == "64 images"
    assert clock(-3) == "0:00:00"
    assert first_that_fits([], 10) == ""


def test_the_log_gives_the_last_scores_and_the_middle_speed() -> None:
    records: list[dict[str, object]] = [
        {"images": 16, "images_per_second": 3.0, "seconds": 5.0, "psnr": 12.0},
        {"images": 32, "images_per_second": 20.0, "seconds": 9.0},
        {"images": 32, "fd_random": 0.5, "fd_random/real": 0.02, "diversity": 0.9},
        {"images": 40, "setback": "loss", "lr": 0.1},
        {"images": 48, "images_per_second": 22.0, "seconds": 14.0, "psnr": None},
    ]
    assert read_measured(records) == Measured(14.0, 20.0, 0.5, 0.02, 12.0)
    assert read_measured([]) == Measured()
    assert read_measured([]).scores() == {}


def test_the_end_says_how_to_go_on() -> None:
    measured = Measured(seconds=600.0, speed=250.0)
    told = length_words("gan", 11_000, 300_000, measured, in_minutes=True)
    assert told == "11,000 of the 300,000 images that gan usually needs: go on with --minutes 30"
    told = length_words("gan", 11_000, 300_000, measured, in_minutes=False)
    assert told.endswith("go on with --images 300000 (about 19 minutes)")
    told = length_words("gan", 11_000, 300_000, measured, in_minutes=True, python=True)
    assert told.endswith("go on with minutes=30")
    told = length_words("gan", 64, 300_000, Measured(), in_minutes=True)
    assert told.endswith("go on with --images 300000")
    told = length_words("gan", 290_000, 300_000, measured, in_minutes=True)
    assert told == "290,000 images seen, enough: gan usually needs 300,000 for such a set"


def test_a_score_comes_with_its_direction_and_that_of_real_images() -> None:
    assert score_words(Measured()) == []
    assert score_words(Measured(score=0.4414, real=0.0213, psnr=24.06)) == [
        "FD-random 0.441, distance to the data: lower is better, real images get 0.0213",
        "PSNR 24.1 dB of reconstructed training images: higher is better",
    ]


def test_few_images_need_fewer_steps() -> None:
    assert usual_images("gan", "cpu", 50_000) == PRESETS["gan"].cpu["images"]
    assert usual_images("gan", "cuda", 50_000) == PRESETS["gan"].gpu["images"]
    assert usual_images("gan", "cpu", 359) == FEWEST_SEEN
    assert usual_images("vae", "cpu", 359) == PRESETS["vae"].cpu["images"]
