"""Pictures that a model drew for a report are kept, and drawn only once."""

from math import inf
from pathlib import Path

import pytest

from gentool.checkpoint import load_model
from gentool.data import cache_folder, open_dataset
from gentool.report import drawing
from gentool.report.drawing import Deadline, draw
from gentool.report.film import Frame
from gentool.report.keeping import Part, Picture, place_of, read_parts, write_parts

PICTURE = Picture(Frame("data:image/webp;base64,AAAA", 8, 4), "eight samples", "<b>")


def test_parts_are_read_as_they_were_written(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "drawn-0"
    parts = {"classes": Part([PICTURE], ""), "traversal": Part([], "there are no directions")}
    write_parts(place, parts)
    assert read_parts(place) == parts


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{", '{"classes": 3}', '{"classes": {"pictures": [{}], "note": ""}}'],
)
def test_a_damaged_file_holds_nothing(damage: str, tmp_path: Path) -> None:
    place = tmp_path / "drawn-0"
    place.write_text(damage)
    assert read_parts(place) == {}
    assert read_parts(tmp_path / "absent") == {}


def test_a_picture_from_elsewhere_is_not_taken(tmp_path: Path) -> None:
    place = tmp_path / "drawn-0"
    foreign = Picture(Frame("https://example.org/a.webp", 8, 4), "a picture")
    write_parts(place, {"classes": Part([foreign], "")})
    assert read_parts(place) == {}


def test_a_second_report_draws_nothing(
    vae: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset("builtin:shapes:64", "16")
    loaded = load_model(vae, "cpu")
    late = draw(loaded, dataset, Deadline(0))
    assert late.notes["neighbours"].startswith("it would take too long")
    assert not place_of(loaded, dataset).exists()
    first = draw(loaded, dataset, Deadline(inf))
    assert {"classes", "reconstructions", "neighbours", "traversal"} == first.pictures.keys()
    assert len(list(cache_folder().glob("features-*"))) == 1

    def never(*_: object) -> None:
        raise AssertionError("it is drawn again")

    monkeypatch.setattr(drawing, "prior_blocks", never)
    assert draw(loaded, dataset, Deadline(0)) == first
    with pytest.raises(AssertionError, match="drawn again"):  # other images
        draw(loaded, None, Deadline(inf))
