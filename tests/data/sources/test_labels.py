"""Labels from dataset.json, from a CSV and from folders; a mismatch is an error."""

import json
import zipfile
from pathlib import Path

import pytest
from conftest import draw
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.data import Source, open_source

NAMES = ("00000/a.png", "00000/b.png", "00001/c.png")


def a_set(folder: Path) -> Path:
    for k, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(k)).save(folder / name)
    return folder


def told(source: Source) -> list[str] | None:
    """The class name of each image."""
    return None if source.labels is None else [source.classes[k] for k in source.labels]


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, top + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a top"])
@pytest.mark.parametrize("form", ["pairs", "table", "csv", "csv with a header"])
def test_a_label_file_at_the_root_counts_unasked(form: str, kind: str, tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set")
    pairs = list(zip(NAMES, (10, 2, 10), strict=True))
    rows = [f'"{path}",{label}\n' for path, label in pairs]
    match form:
        case "pairs":
            (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
        case "table":
            (folder / "dataset.json").write_text(json.dumps({"labels": dict(pairs)}))
        case "csv":
            (folder / "labels.csv").write_text("".join(rows))
        case _:
            (folder / "labels.csv").write_text("\ufeffPath,Label\r\n" + "\r\n".join(rows))
    path = folder
    if kind != "folder":
        path = zipped(folder, tmp_path / "x.zip", "top/" if "top" in kind else "")
    source = open_source(str(path))
    assert source.paths == NAMES
    assert source.classes == ("2", "10")  # by value, not by letters
    assert told(source) == ["10", "2", "10"]


def test_the_folders_of_a_labelled_zip_stay_in_the_paths(tmp_path: Path) -> None:
    """Else a single folder beside dataset.json would be looked through."""
    folder = a_set(tmp_path / "set")
    (folder / NAMES[2]).unlink()
    (folder / "dataset.json").write_text(json.dumps({"labels": [[NAMES[0], 0], [NAMES[1], 1]]}))
    assert open_source(str(zipped(folder, tmp_path / "x.zip"))).paths == NAMES[:2]
    (folder / "dataset.json").unlink()
    assert open_source(str(zipped(folder, tmp_path / "y.zip"))).paths == ("a.png", "b.png")


@pytest.mark.parametrize("content", ['{"labels": null}', "{}", "[]", '{"images": [1, 2]}'])
def test_a_dataset_json_without_labels_leaves_it_to_the_folders(
    content: str, tmp_path: Path
) -> None:
    (a_set(tmp_path) / "dataset.json").write_text(content)
    assert told(open_source(str(tmp_path))) == ["00000", "00000", "00001"]


def test_labels_can_be_given(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set")
    table = tmp_path / "any name"
    table.write_text("./00000/a.png,cat\n00000\\b.png,dog\n\n00001/c.png,cat\n")
    (folder / "labels.csv").write_text("ignored")
    assert told(open_source(str(folder), labels=str(table))) == ["cat", "dog", "cat"]
    assert told(open_source(str(folder), labels="folders")) == ["00000", "00000", "00001"]
    assert told(open_source(str(folder), labels="none")) is None
    archive = zipped(folder, tmp_path / "x.zip")
    assert told(open_source(str(archive), labels=str(table))) == ["cat", "dog", "cat"]
    assert told(open_source(str(archive), labels="none")) is None


def test_the_fingerprint_follows_the_labels(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set")
    found = [open_source(str(folder), labels=how).fingerprint for how in (None, "folders", "none")]
    assert found[0] == found[1]
    table = tmp_path / "l.csv"
    for labels in ("xxy", "xyy", "xyz"):
        rows = zip(NAMES, labels, strict=True)
        table.write_text("".join(f"{path},{label}\n" for path, label in rows))
        found.append(open_source(str(folder), labels=str(table)).fingerprint)
    assert len(set(found)) == 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("00000/a.png,1\n", "no label for 2 of 3 images; the first is 00000/b.png"),
        ("".join(f"{n},1\n" for n in (*NAMES, "x\x1b.png", "y.png")),
         "names 2 images that do not exist; the first is x\x1b.png"),
        ("00000/a.png\n", "row 1 has 1 columns"),
        ('"a,1\n', "not a CSV"),
        ("", "no label for 3 of 3"),
    ],
)  # fmt: skip
def test_a_mismatch_names_how_many_and_the_first(rows: str, message: str, tmp_path: Path) -> None:
    (a_set(tmp_path) / "labels.csv").write_text(rows)
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert message in str(caught.value)
    assert "labels.csv" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"labels": 3}', '{"labels": [["a", 1, 2]]}', '{"labels": [["a", [0.5, 1]]]}',
     '{"labels": [[3, 1]]}', '{"labels": [["a", true]]}', '{"labels": ' + "[" * 50_000, "\xff"],
)  # fmt: skip
def test_a_broken_dataset_json_is_an_error(content: str, tmp_path: Path) -> None:
    (a_set(tmp_path) / "dataset.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"dataset\.json is not JSON .*StyleGAN"):
        open_source(str(tmp_path))


def test_labels_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of labels at nowhere"):
        open_source(str(a_set(tmp_path)), labels="nowhere")
    with pytest.raises(UsageError, match=r"^builtin:shapes has its own labels"):
        open_source("builtin:shapes", labels="none")
