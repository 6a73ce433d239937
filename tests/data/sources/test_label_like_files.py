"""Files that have to do with labels and give none are called what they are."""

import json
import zipfile
from pathlib import Path

import pytest
from conftest import draw
from PIL import Image

from gentool.core.errors import DataError
from gentool.data import open_source

COUNT = 24
NAMES = [f"{k:03d}.png" for k in range(COUNT)]
COCO = {
    "images": [{"id": k, "file_name": name} for k, name in enumerate(NAMES)],
    "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [0, 0, 4, 4]}
                    for k in range(3)],
    "categories": [{"id": 1, "name": "cat"}],
}  # fmt: skip
OBJECTS = "describes objects in images, not one class for each image"
LIST = "lists names of classes, but not which image has which"
VALUES = "has another value for nearly each image, as captions and measurements do"
CAPTIONS = "has captions (text), from which gentool does not learn, and no classes"


def rows(header: str, cell: str, separator: str = ",") -> str:
    lines = [separator.join([name, cell.format(k=k)]) for k, name in enumerate(NAMES)]
    return "\n".join(filter(None, [header, *lines, ""]))


LIKE_LABELS: dict[str, tuple[str, str]] = {
    "annotations.json": (json.dumps(COCO), OBJECTS),
    "instances_train2017.json": (json.dumps(COCO), OBJECTS),
    "classes.json": ('["cat", "dog"]', LIST),
    "class_indices.json": ('{"cat": 0, "dog": 1}', LIST),
    "id2label.json": ('{"id2label": {"0": "cat", "1": "dog"}}', LIST),
    "label_map.json": ('{"1": "cat", "2": "dog"}', LIST),
    "classes.txt": ("cat\nwild dog\n", LIST),
    "metadata.csv": (rows("file_name,text", "a photo of {k}"), CAPTIONS),
    "metadata.jsonl": ("\n".join(json.dumps({"file_name": n, "text": n}) for n in NAMES), CAPTIONS),
    "captions.csv": (rows("file_name,aesthetic", "{k}.5"), VALUES),
    "captions.txt": (rows("", "a photo of a thing {k}", "\t"), VALUES),
}  # fmt: skip


def images(folder: Path) -> Path:
    folder.mkdir()
    for k, name in enumerate(NAMES):
        Image.fromarray(draw(k)).save(folder / name)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LIKE_LABELS)
def test_what_looks_like_labels_is_called_what_it_is(
    name: str, packed: bool, tmp_path: Path
) -> None:
    text, wanted = LIKE_LABELS[name]
    folder = images(tmp_path / "set")
    (folder / name).write_text(text)
    place = folder
    if packed:
        place = tmp_path / "packed" / "set.zip"
        place.parent.mkdir()
        with zipfile.ZipFile(place, "w") as out:
            for file in sorted(folder.iterdir()):
                out.write(file, f"set/{file.name}")
    source = open_source(str(place))
    assert source.labels is None
    (told,) = source.notes
    assert told.startswith(f"{name} ")
    assert wanted in told
    assert "--labels" not in told


@pytest.mark.parametrize("name", ["labels.json", "classes.csv", "attributes.csv", "texts_test.csv"])
def test_what_is_labels_is_still_offered(name: str, tmp_path: Path) -> None:
    folder = images(tmp_path / "set")
    text = {
        "labels.json": json.dumps({n: ["cat", "dog"][k % 2] for k, n in enumerate(NAMES)}),
        "classes.csv": "".join(f"{n},{k % 2}\n" for k, n in enumerate(NAMES)),
        "texts_test.csv": "file,text\n" + "".join(f"{n},{k % 2}\n" for k, n in enumerate(NAMES)),
        "attributes.csv": "file,Smiling,Male\n" + "".join(f"{n},1,1\n" for n in NAMES),
    }[name]
    (folder / name).write_text(text)
    (told,) = open_source(str(folder)).notes
    assert f"To use it: --labels {folder / name}" in told


NUMBERS: dict[str, tuple[str, list[str], bool]] = {
    "ages as fractions": ("age", [f"{20 + 1.7 * k:.1f}" for k in range(COUNT)], True),
    "ages": ("age", [str(18 + k) for k in range(COUNT)], True),
    "other whole numbers": ("label", [str(k) for k in range(COUNT)], True),
    "ten classes": ("label", [str(k % 10) for k in range(COUNT)], False),
    "a few fractions": ("label", [str(0.5 * (k % 3)) for k in range(COUNT)], False),
    "persons": ("person_id", [str(k) for k in range(COUNT)], False),
    "names": ("label", [f"p{k}" for k in range(COUNT)], False),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_measurements_are_not_called_subjects(kind: str, tmp_path: Path) -> None:
    column, values, measured = NUMBERS[kind]
    folder = images(tmp_path / "set")
    lines = [f"{n},{value}\n" for n, value in zip(NAMES, values, strict=True)]
    (folder / "labels.csv").write_text(f"file,{column}\n{''.join(lines)}")
    told = open_source(str(folder)).intake.class_warnings
    assert any("If they are measurements, such as ages" in w for w in told) == measured
    assert len(told) <= 1
    if kind in ("persons", "names"):
        assert "as of a folder per subject" in told[0]


def test_several_classes_in_one_name_are_told(tmp_path: Path) -> None:
    folder = images(tmp_path / "set")
    values = ["cat", "dog", "cat|dog", "fox, red"]
    lines = [f'{n},"{values[k % 4]}"\n' for k, n in enumerate(NAMES)]
    (folder / "labels.csv").write_text(f"file,label\n{''.join(lines)}")
    (told,) = open_source(str(folder)).intake.class_warnings
    assert told.startswith("cat|dog is a class of its own")


@pytest.mark.parametrize(("folders", "wanted"), [
    (("train", "test", "docs"), "test and train look like the parts of a data set"),
    (("train", "bus", "car"), None), (("test", "val", "cat"), None),
])  # fmt: skip
def test_parts_of_a_set_beside_another_folder(
    folders: tuple[str, ...], wanted: str | None, tmp_path: Path
) -> None:
    for folder in folders:
        images(tmp_path / folder)
    source = open_source(str(tmp_path))
    assert (source.labels is None) == (wanted is not None)
    assert wanted is None or wanted in source.notes[0]


@pytest.mark.parametrize(
    "name", ["annotations.json", "classes.json", "id2label.json", "classes.txt"]
)
def test_asked_for_they_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    text, wanted = LIKE_LABELS[name]
    folder = images(tmp_path / "set")
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=f"{name} .*{wanted}.* a CSV of path,label"):
        open_source(str(folder), labels=name)
