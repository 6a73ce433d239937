"""Labels from dataset.json, from a CSV and from folders; a mismatch is an error."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import TINY, draw, gentool_command
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.data import Source, open_images, open_source, open_sources
from gentool.data.labels.folders import alike

NAMES = ("00000/a.png", "00000/b.png", "00001/c.png")


def a_set(folder: Path, names: Sequence[str] = NAMES) -> Path:
    for k, name in enumerate(names):
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


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a top"])
@pytest.mark.parametrize(
    ("content", "of_the_tool", "of_people"),
    [
        ('{"labels": null}', False, False),
        ('{"labels": []}', False, False),
        ("{}", False, True),
        ("[]", False, True),
        ('{"images": [1, 2]}', False, True),
        ('{"name": "my set", "version": 2}', False, True),
    ],
)
def test_a_dataset_json_without_labels_and_the_folders(
    content: str, of_the_tool: bool, of_people: bool, kind: str, tmp_path: Path
) -> None:
    """Whether folders are classes: 00000 and 00001 of StyleGAN's tool, and others."""
    for number, (names, classes) in enumerate(
        [(NAMES, of_the_tool), (("cat/a.png", "dog/b.png"), of_people)]
    ):
        folder = a_set(tmp_path / str(number), names)
        (folder / "dataset.json").write_text(content)
        path = folder
        if kind != "folder":
            path = zipped(folder, tmp_path / f"{number}.zip", "top/" if "top" in kind else "")
        source = open_source(str(path))
        assert told(source) == ([name.split("/")[0] for name in names] if classes else None)
        assert classes or any("--labels folders" in note for note in source.notes)
        assert told(open_source(str(path), labels="folders")) is not None


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
         "names 2 images that do not exist; the first is x\x1b.png (row 4)"),
        ("00000/a.png\n", "row 1 has 1 columns"),
        ('"a,1\n', "not a CSV"),
        ("", "it is empty"),
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


def labelled(folder: Path, names: Sequence[str], file: str, content: str | bytes) -> Path:
    """A folder of images with one more file."""
    a_set(folder, names)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def rows(*, header: str = "", between: str = ",", end: str = "\n", names: str = "a.png b.png c.png",
         labels: str = "cat dog cat") -> str:  # fmt: skip
    """A file of labels: one row for each name."""
    lines = [between.join(pair) for pair in zip(names.split(), labels.split(), strict=True)]
    return end.join([*([header] if header else []), *lines]) + end


WORDS = ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    "content",
    [
        *(rows(header=h) for h in ("filename,label", "image,class", "file_name,label",
                                   "path,category", "id,target", "Image ID,Label", "bild,klasse",
                                   "image_id,has_cactus", "img,y", "filepaths,class name")),
        rows(header="label,filename", names="cat dog cat", labels="a.png b.png c.png"),
        rows(names="cat dog cat", labels="a.png b.png c.png"),
        rows(header="filename;label", between=";"),
        rows(header="filename\tlabel", between="\t"),
        rows(between="\t"),
        rows(between="|"),
        rows(between="   "),
        rows(header="filename label", between=" \t "),
        rows(header="#filename label", between=" "),
        rows(header="# made by hand\nfilename,label"),
        rows(header="# my labels\nfilename,label"),
        rows(header="# labels of images, by hand\n# second line\nfilename;label", between=";"),
        rows(header="sep=;\nfilename;label", between=";"),
        rows(header="\ufefffilename,label", end="\r\n"),
        rows(header="filename,label", end="\r"),
        rows(header="filename,label").encode("utf-16"),
        rows(header="filename\tlabel", between="\t").encode("utf-16-le"),
        rows(header="filename\tlabel", between="\t").encode("utf-16-be"),
        rows(header="filename,label").encode("utf-32"),
        rows(header="filename,label,", labels="cat, dog, cat,"),
        rows(header="filename,label", labels="cat, dog, cat,"),
        ",filename,label\n0,a.png,cat\n1,b.png,dog\n2,c.png,cat\n",
        "Unnamed: 0,id,label\n0,a,cat\n1,b,dog\n2,c,cat\n",
        "5,a.png,cat\n6,b.png,dog\n7,c.png,cat\n",
        "filename label\n1 a.png cat\n2 b.png dog\n3 c.png cat\n",  # R leaves out row names
        "id,filename,label\n7,a.png,cat\n7,b.png,dog\n1,c.png,cat\n",
        "filename,class_id,class_name\na.png,1,cat\nb.png,0,dog\nc.png,1,cat\n",
        "filename,label,width,split\na.png,cat,3,val\nb.png,dog,4,train\nc.png,cat,4,train\n",
        rows(header="id,label", names="a b c"),
        rows(header="foto,art", names="a b c"),
        "filename,label\n\u200ba.png,cat\nb.png\u00a0,dog\nc.png,\u00a0cat\n",
        '"file" "label"\n"1" "a.png" "cat"\n"2" "b.png" "dog"\n"3" "c.png" "cat"\n',
        '{"image": {"path": "a.png"}, "label": "cat"}\n'
        '{"image": {"path": "b.png"}, "label": "dog"}\n'
        '{"image": {"path": "c.png"}, "label": "cat"}\n',
        "image_path,mask_path,label\nx/a.png,m/a.png,cat\nx/b.png,m/b.png,dog\n"
        "x/c.png,m/c.png,cat\n",
        rows(names="a b c"),
        rows(names="A.PNG B.png C.Png"),
        rows(names="a.jpg b.jpg c.JPEG"),
        rows(names="set/a.png set/b.png set/c.png"),
        rows(names="./a.png .\\b.png /c.png"),
        rows(names="/home/me/old/a.png /home/me/old/b.png /home/me/old/c.png"),
        rows(names="C:\\data\\a.png C:\\data\\b.png C:\\data\\c.png"),
        rows(names="a.png b.png c.png a.png", labels="cat dog cat cat"),
        '"filename","label"\n"a.png","cat"\n"b.png","dog"\n"c.png","cat"\n',
        "\n\nfilename,label\n\na.png, cat\nb.png , dog\n,\nc.png,cat\n\n",
        "a.png,cat\nb.png,dog\nc.png,cat",
        '[{"file_name": "a.png", "label": "cat"}, {"file_name": "b.png", "label": "dog"}, '
        '{"file_name": "c.png", "label": ["cat"]}]',
        '{"a.png": "cat", "b": "dog", "c.png": "cat"}',
        '{"filename": {"0": "a.png", "1": "b.png", "2": "c.png"}, '
        '"label": {"0": "cat", "1": "dog", "2": "cat"}}',
        '{"data": [{"id": "a", "class": "cat"}, {"id": "b", "class": "dog"}, '
        '{"id": "c", "class": "cat"}]}',
        '["a.png", "cat"]\n["b.png", "dog"]\n["c.png", "cat"]\n',
        '{"image": "a.png", "class": "cat"}\n\n{"class": "dog", "image": "b.png"}\r\n'
        '{"image": "c.png", "class": "cat"}',
    ],
)  # fmt: skip
def test_labels_as_people_write_them(content: str | bytes, tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png")
    folder = labelled(tmp_path / "set", names, "mine.txt", content)
    assert told(open_source(str(folder), labels=str(folder / "mine.txt"))) == WORDS


@pytest.mark.parametrize(
    ("names", "content", "expected"),
    [
        (("my a.png", "b.png"), "my a.png,1.0\nb.png,10\n", ["10", "1"]),
        (("a.png", "b.png"), "a.png golden retriever\nb.png cat\n", ["golden retriever", "cat"]),
        (("a.png", "b.png"), "filename;label\na.png;3,5\nb.png;1,0\n", ["3,5", "1,0"]),
        (("a.png", "b.png"), 'a.png,"big, brown"\nb.png,cat\n', ["big, brown", "cat"]),
        (("a.png", "b.png"), "a.png,-1.0\nb.png,+3\n", ["-1", "3"]),
        (("a.png", "b.png"), "a.png,0.5\nb.png,1.0\n", ["0.5", "1.0"]),
        (("a.png", "b.png"), "a.png,3.0\nb.png,none\n", ["3", "none"]),
        (("0001.png", "0002.png"), "id,label\n1,x\n2,y\n", ["x", "y"]),
        (("1.png", "2.png", "3.png"), "label,id\n2,1\n1,2\n2,3\n", ["2", "1", "2"]),
        (("images/a.png", "images/b.png"), "a.png,x\nb.png,y\n", ["x", "y"]),
        (("images/a.png", "images/b.png"), "train/a.png,x\ntrain/b.png,y\n", ["x", "y"]),
        (("k/1.png", "l/1.png"), "/old/k/1.png,x\n/old/l/1.png,y\n", ["x", "y"]),
        (("k/1.png", "l/1.png"), "k\\1.png,x\nl\\1.png,y\n", ["x", "y"]),
        (("a.jpg", "a.png"), "a.png,x\na.jpg,y\n", ["y", "x"]),
        (("caf\u00e9.png", "b.png"), "cafe\u0301.png,x\nb.png,y\n", ["y", "x"]),
        (("cafe\u0301.png", "b.png"), "caf\u00e9.png,x\nb.png,y\n", ["y", "x"]),
        (("a.png", "b.png"), "a.png,caf\u00e9\nb.png,cafe\u0301\n", ["caf\u00e9"] * 2),
        (("a.png", "\u00e9.png"), "a.png,\u00e9\n\u00e9.png,b\n".encode("cp1252"), ["\u00e9", "b"]),
    ],
)
def test_names_and_labels_are_matched(
    names: tuple[str, ...], content: str | bytes, expected: list[str], tmp_path: Path
) -> None:
    source = open_source(str(labelled(tmp_path / "set", names, "labels.csv", content)))
    assert dict(zip(source.paths, told(source) or (), strict=True)) == dict(
        zip(sorted(names, key=os.fsencode), expected, strict=True)
    )


CELEBA = "3\nSmiling Young\na.png  1 -1\nb.png -1  1\nc.png  1  1\n"


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a top"])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("list_attr_celeba.txt", CELEBA),
        ("list_attr_celeba.csv", "image_id,Smiling,Young\na.jpg,1,-1\nb.jpg,-1,1\nc.jpg,1,1\n"),
        ("people.jsonl", '{"file_name": "a.png", "Young": 1, "Smiling": 1.0}\n'
         '{"file_name": "b.png", "Young": 1, "Smiling": -1}\n'
         '{"file_name": "c.png", "Young": 1, "Smiling": 1}\n'),
        ("metadata.json", '{"a": {"Smiling": 1, "Young": 2}, "b": {"Smiling": "-1", "Young": 3}, '
         '"c": {"Smiling": 1}}'),
        ("data:1.tsv", "Smiling\tid\tYoung\n1\ta\t2\n-1\tb\t3\n1\tc\t4\n"),
    ],
)  # fmt: skip
def test_a_further_column_is_asked_for(file: str, content: str, kind: str, tmp_path: Path) -> None:
    """By the path of the file, or by its name alone where it is beside the images."""
    folder = labelled(tmp_path / "set", ("a.png", "b.png", "c.png"), file, content)
    path = folder
    if kind != "folder":
        path = zipped(folder, tmp_path / "x.zip", "top/" if "top" in kind else "")
    unasked = open_source(str(path))
    assert unasked.labels is None
    assert any(f"{file}:COLUMN, where COLUMN is " in note for note in unasked.notes)
    for asked in (f"{folder / file}:Smiling", f"{file}:Smiling", f"{file}:smiling "):
        assert told(open_source(str(path), labels=asked)) == ["1", "-1", "1"]
    with pytest.raises(DataError, match=r"no column Sad.*columns: .*Smiling"):
        open_source(str(path), labels=f"{file}:Sad")


def test_a_column_without_a_name_is_asked_for_by_its_number(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "set", ("a.png", "b.png"), "labels.csv", "a.png,x,1\nb.png,y,2\n")
    with pytest.raises(DataError, match=r"several columns .*columns: 2, 3"):
        open_source(str(folder))
    assert told(open_source(str(folder), labels="labels.csv:3")) == ["1", "2"]
    assert told(open_source(str(folder), labels="labels.csv:2")) == ["x", "y"]


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl"])
def test_metadata_of_the_hub_counts_unasked_if_it_has_labels(file: str, tmp_path: Path) -> None:
    names, records = (
        ("cat/a.png", "dog/b.png"),
        [{"file_name": "cat/a.png"}, {"file_name": "dog/b.png"}],
    )

    def written(column: str, values: tuple[str, str]) -> Path:
        told = [record | {column: value} for record, value in zip(records, values, strict=True)]
        lines = [json.dumps(record) for record in told]
        if file.endswith(".csv"):
            lines = [",".join(told[0]), *(",".join(record.values()) for record in told)]
        return labelled(tmp_path / column, names, file, "\n".join(lines))

    assert told(open_source(str(written("label", ("old", "young"))))) == ["old", "young"]
    captions = open_source(str(written("text", ("a cat", "two dogs"))))
    assert told(captions) == ["cat", "dog"]
    assert any(f"{file} has captions (text)" in note for note in captions.notes)


HUNDRED = tuple(f"{number:03}.png" for number in range(100))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_does_not_match_is_counted_and_left_out_up_to_max_bad(
    kind: str, tmp_path: Path
) -> None:
    told_rows = [f"{name},{number % 2}" for number, name in enumerate(HUNDRED)]

    def made(name: str, *lines: str) -> Path:
        folder = labelled(tmp_path / name, HUNDRED, "labels.csv", "\n".join(lines))
        return folder if kind == "folder" else zipped(folder, tmp_path / f"{name}.zip")

    whole = open_source(str(made("whole", *told_rows)))
    assert len(whole) == 100
    one = open_source(str(made("one", *told_rows[:6], "006.png,", *told_rows[7:], "100.png,1")))
    assert len(one) == 99
    assert "006.png" not in one.paths
    assert told(one) == [str(number % 2) for number in range(100) if number != 6]
    assert one.open(6).image.tobytes() == whole.open(7).image.tobytes()
    notes = "\n".join(one.notes)
    assert "1 of 100 images is left out, as labels.csv has no label for them" in notes
    assert "006.png (1 empty, row 7)" in notes
    assert "labels.csv names 1 image that does not exist; the first is 100.png (row 101)" in notes
    assert one.fingerprint != open_source(str(made("other", *told_rows[:-1]))).fingerprint
    for lines, message in (
        (told_rows[2:], "no label for 2 of 100 images; the first is 000.png; .*--max-bad 0.02"),
        ([*told_rows, "x.png,0", "y.png,1"], "names 2 images that do not exist; .*--max-bad 0.02"),
    ):
        path = made(f"two {len(lines)}", *lines)
        with pytest.raises(DataError, match=message):
            open_source(str(path))
        assert len(open_source(str(path), max_bad=0.02)) == min(len(lines), 100)


def test_rows_of_a_far_larger_set_can_be_allowed(tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,{number % 2}\n" for number in range(50))
    folder = labelled(tmp_path / "set", ("1.png", "2.png"), "labels.csv", rows)
    with pytest.raises(DataError, match=r"names 48 images that do not exist.*--max-bad 0.96"):
        open_source(str(folder))
    assert told(open_source(str(folder), max_bad=0.96)) == ["1", "0"]


def test_of_a_file_for_several_splits_the_rows_of_this_folder_count(tmp_path: Path) -> None:
    rows = "train/a.png,1\ntrain/b.png,2\ntest/a.png,2\ntest/b.png,1\n"
    labelled(tmp_path / "set", ("train/a.png", "train/b.png"), "all.csv", rows)
    how = {"labels": str(tmp_path / "set" / "all.csv"), "max_bad": 1.0}
    source = open_source(str(tmp_path / "set" / "train"), **how)  # type: ignore[arg-type]
    assert told(source) == ["1", "2"]
    assert "2 images that do not exist; the first is test/a.png (row 3)" in "".join(source.notes)


@pytest.mark.parametrize(
    ("names", "content", "message"),
    [
        (("a.png",), "a.png,1\na.png,2\n", "different labels for a.png: 1 in row 1 and 2 in row 2"),
        (("a.png",), "\na.png,1\n\n.\\a.png,2\n", "1 in row 2 and 2 in row 4"),
        (("a.jpg", "a.png"), "a,1\n", "row 1, a, fits several images: a.jpg and a.png"),
        (("k/a.png", "l/a.png"), "id,label\na.png,1\n", "row 2, a.png, fits several images: k/a"),
        (("A.png", "a.PNG"), "a.png,1\n", "fits several images"),
        (("a.png",), "file,label,category\na.png,1,x\n", "columns: label, category"),
        (("a.png",), "file,age,sex\na.png,1,x\n", "several columns.*columns: age, sex"),
        (("a.png",), "file,label\na.png,x,y\n", "row 2 has 3 columns instead of 2"),
        (("a.png",), "file,label\nx/y.png,1\n", "row 2 names x/y.png, the first image is a.png"),
        (("a.png",), "file,label\na.png,\n", "the column is empty"),
        (("a.png",), "file,label\na.png,nan\n", "the column is empty"),
        (("a.png",), "file,label\n", "no rows below its header"),
        (("a.png",), "file,label\na.png,x, red\n", "row 2 has 3 columns instead of 2"),
        (("k.png", "l.png"), "x,m\nk,m\nl,n\n", "names 1 image that does not exist; .* x"),
        (("a.png",), b"PK\x03\x04\0\0\0\0\0\xff", "Save a spreadsheet as CSV"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_refused(
    names: tuple[str, ...], content: str | bytes, message: str, tmp_path: Path
) -> None:
    folder = labelled(tmp_path / "set", names, "labels.csv", content)
    with pytest.raises(DataError, match=message):
        open_source(str(folder), max_bad=0.2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a.png": 1, "a.png": 2}', "different labels: 1 and 2"),
        ('{"images": [], "annotations": [], "categories": []}', "describes objects in images"),
        ('{"file": "a.png", "label": 1}\n{"file": ', "row 2 is not JSON"),
        ('[{"file": "a.png", "label": [1, 2]}]', "row 1: .* is not one class"),
        ('{"labels": null}', "has no labels in it"),
    ],
)
def test_json_that_gives_no_label_is_refused(content: str, message: str, tmp_path: Path) -> None:
    folder = labelled(tmp_path / "set", ("a.png",), "x.json", content)
    with pytest.raises(DataError, match=message):
        open_source(str(folder), labels="x.json")


FOLDERS = [f"{animal}/{number}.png" for animal in ("cat", "dog") for number in range(5)]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([*FOLDERS, "cover.png"], "1 of 11 images are in no class folder; the first is cover.png"),
        (["1.png", "2.png"], "all images are in one folder"),
    ],
)
def test_folders_that_are_asked_for_and_are_no_classes_are_refused(
    names: list[str], reason: str, kind: str, tmp_path: Path
) -> None:
    path = a_set(tmp_path / "set", names)
    if kind == "zip":
        path = zipped(path, tmp_path / "x.zip")
    unasked = open_source(str(path))
    assert unasked.labels is None
    assert len(unasked) == len(names)
    assert any(reason in note for note in unasked.notes) == ("cover.png" in names)
    with pytest.raises(DataError, match=reason):
        open_source(str(path), labels="folders")
    if "cover.png" in names:
        left = open_source(str(path), labels="folders", max_bad=0.1)
        assert told(left) == ["cat"] * 5 + ["dog"] * 5
        assert "1 of 11 images left out" in "".join(left.notes)
        assert open_source(str(path), labels="folders", max_bad=0.2).paths == left.paths


def test_one_image_of_hundreds_outside_the_folders_keeps_the_classes(tmp_path: Path) -> None:
    names = [f"{animal}/{number}.png" for animal in ("cat", "dog") for number in range(60)]
    source = open_source(str(a_set(tmp_path, [*names, "cover.png"])))
    assert len(source) == 120
    assert source.classes == ("cat", "dog")
    assert "the first is cover.png" in "".join(source.notes)


def test_folders_that_differ_only_in_their_spelling(tmp_path: Path) -> None:
    names = ["caf\u00e9/1.png", "cafe\u0301/2.png", "Dog/3.png", "dog/4.png"]
    source = open_source(str(a_set(tmp_path, names)))
    assert source.classes == ("Dog", "caf\u00e9", "dog")
    assert any("nearly the same name: Dog and dog" in note for note in source.notes)


def test_numbers_that_differ_in_their_sign_are_not_nearly_the_same() -> None:
    assert alike(["-1", "1"]) == []
    assert alike(["wild-cat", "dog", "wild cat"]) == ["wild-cat", "wild cat"]


def test_files_that_could_be_labels_are_named_with_how_to_use_them(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "here" / "set", ("cat/a.png", "dog/b.png"))
    (folder / "breeds.tsv").write_text("a\tx\nb\ty\n")
    (folder / "prices.csv").write_text("year,price\n2020,3\n")
    (folder / "list.txt").write_text("buy milk\n")
    (folder / "readme.txt").write_text("a b\n")
    source = open_source(str(folder))
    assert told(source) == ["cat", "dog"]
    asked = str(folder / "breeds.tsv")
    assert source.notes == (f"breeds.tsv is not used for labels. To use it: --labels {asked}",)
    assert told(open_source(str(folder), labels=asked)) == ["x", "y"]
    assert not open_source(str(folder), labels="folders").notes
    beside = folder.parent / "labels.csv"
    beside.write_text("a.png,1\nb.png,2\n")
    for path in (folder, zipped(folder, folder.parent / "x.zip")):
        notes = open_source(str(path)).notes
        assert notes[-1] == f"{beside} is not used for labels. To use it: --labels {beside}"
    with pytest.raises(DataError, match=r"no file of labels at labls.csv.*here is .*breeds.tsv"):
        open_source(str(folder), labels="labls.csv")


def test_the_notes_of_a_large_archive_are_kept_with_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gentool.data.sources.index.KEPT_ABOVE", 5)
    lines = [f"{name},{number % 3}" for number, name in enumerate(HUNDRED)]
    folder = labelled(tmp_path / "set", HUNDRED, "labels.csv", "\n".join(lines[1:]))
    path = zipped(folder, tmp_path / "x.zip")
    first, again = open_source(str(path)), open_source(str(path))
    assert first.notes == again.notes
    assert len(first.notes) == 2
    with pytest.raises(DataError, match=r"--max-bad is 0"):
        open_source(str(path), max_bad=0)


def test_joined_sources_say_why_there_are_no_classes(tmp_path: Path) -> None:
    a_set(tmp_path / "two")
    a_set(tmp_path / "flat", ("a.png",))
    joined = open_sources([str(tmp_path / "two"), str(tmp_path / "flat")])
    assert joined.labels is None
    assert joined.notes == ("no classes: flat has none, and the others are joined with it",)


def test_joined_sources_merge_classes_in_any_unicode_form(tmp_path: Path) -> None:
    a_set(tmp_path / "one", ("caf\u00e9/a.png", "dog/b.png"))
    a_set(tmp_path / "two", ("cafe\u0301/a.png", "cow/b.png"))
    joined = open_sources([str(tmp_path / "one"), str(tmp_path / "two")])
    assert joined.classes == ("caf\u00e9", "dog", "cow")
    assert told(joined) == ["caf\u00e9", "dog", "caf\u00e9", "cow"]


def test_images_that_are_not_trained_on_need_no_label(tmp_path: Path) -> None:
    """Those to score or to reconstruct."""
    (a_set(tmp_path) / "labels.csv").write_text("nonsense")
    source = open_images(tmp_path)
    assert source is not None
    assert source.paths == NAMES


# --- the root of a file of labels, tables of marks, and Parquet -----------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("beside", ["", "readme.txt", "other/notes.txt", "runs/.keep"])
@pytest.mark.parametrize("top", ["images", "data/images"])
def test_a_file_of_labels_in_the_folder_of_all_images_counts(
    top: str, beside: str, packed: bool, tmp_path: Path
) -> None:
    """Whatever else lies beside that folder; in a folder and in an archive."""
    names = [f"{top}/{k}.png" for k in range(4)]
    folder = a_set(tmp_path / "set", names)
    if beside:
        (folder / beside).parent.mkdir(exist_ok=True)
        (folder / beside).touch()
    (folder / top / "labels.csv").write_text("".join(f"{k}.png,{'ab'[k % 2]}\n" for k in range(4)))
    source = open_source(str(zipped(folder, tmp_path / "x.zip") if packed else folder))
    assert told(source) == ["a", "b", "a", "b"]
    assert source.intake.classes_from == "labels.csv"
    asked = open_source(str(folder), labels="labels.csv")
    assert told(asked) == ["a", "b", "a", "b"]


def test_results_beside_the_only_folder_do_not_hide_its_labels(tmp_path: Path) -> None:
    """A run and samples inside the folder are gentool's own."""
    folder = a_set(tmp_path / "set", [f"images/{k}.png" for k in range(20)])
    rows = [f"{k}.png,{'ab'[k % 2]}" for k in range(20)]
    (folder / "images" / "labels.csv").write_text("\n".join(rows))
    args = ["train", "vae", "--data", folder, "--out", folder / "runs" / "a", "--images"]
    assert gentool_command(*args, 32, *TINY).code == 0
    done = gentool_command(*args, 64, *TINY)
    assert done.code == 0, done.err
    assert open_source(str(folder)).classes == ("a", "b")


def test_a_label_file_at_the_outer_root_still_counts(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set", ["images/0.png", "images/1.png"])
    (folder / "labels.csv").write_text("images/0.png,a\nimages/1.png,b\n")
    assert told(open_source(str(folder))) == ["a", "b"]


MARKS = {
    "csv": "file,cat,dog,bird\n0.png,0,1,0\n1.png,1,0,0\n2.png,0,0,1\n3.png,0,1,0\n",
    "numbers": "image;cat;dog;bird\n0;0.0;1.0;0.0\n1;1.0;0.0;0.0\n2;0.0;0.0;1.0\n3;0.0;1.0;0.0\n",
    "truth": "file,cat,dog,bird\n" "0.png,False,True,False\n1.png,True,False,False\n"
    "2.png,False,False,True\n3.png,False,True,False\n",
    "minus": "file cat dog bird\n0.png -1 1 -1\n1.png 1 -1 -1\n2.png -1 -1 1\n3.png -1 1 -1\n",
    "a split and a size": "file,split,cat,dog,bird,width\n0.png,a,0,1,0,5\n1.png,a,1,0,0,5\n"
    "2.png,b,0,0,1,6\n3.png,b,0,1,0,6\n",
    "an empty class": "file,cat,dog,bird,cow\n0.png,0,1,0,0\n1.png,1,0,0,0\n2.png,0,0,1,0\n"
    "3.png,0,1,0,0\n",
}  # fmt: skip


@pytest.mark.parametrize("form", MARKS)
def test_columns_of_which_each_row_marks_one_are_the_classes(form: str, tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set", [f"{k}.png" for k in range(4)])
    (folder / "labels.csv").write_text(MARKS[form])
    source = open_source(str(folder))
    assert told(source) == ["dog", "cat", "bird", "dog"]
    assert source.classes == ("bird", "cat", "dog")
    assert "3 classes from labels.csv, a column for each, marked with 1" in source.notes[0]
    one = open_source(str(folder), labels="labels.csv:dog")  # one column, as before
    assert len(one.classes) == 2


@pytest.mark.parametrize(
    "table",
    [
        "file,cat,dog\n0.png,1,0\n1.png,1,1\n",
        "file,cat,dog\n0.png,1,0\n1.png,0,0\n",
        "file,cat,dog\n0.png,1,0\n1.png,1,0\n",
        "file,cat,dog\n0.png,1,0\n1.png,0,\n",
        "file,cat,cat\n0.png,1,0\n1.png,0,1\n",
    ],
)
def test_other_tables_of_marks_are_ambiguous(table: str, tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set", ["0.png", "1.png"])
    (folder / "labels.csv").write_text(table)
    with pytest.raises(DataError, match="Ask for one with --labels FILE:COLUMN"):
        open_source(str(folder))


def test_a_mark_in_a_late_row_decides(tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set", ["0.png", "1.png"])
    rows = [f"{k}.png,{k % 2},{1 - k % 2}" for k in range(300)]
    (folder / "labels.csv").write_text("\n".join(["file,cat,dog", *rows, "300.png,1,1"]))
    with pytest.raises(DataError, match="Ask for one"):
        open_source(str(folder))


@pytest.mark.parametrize("packed", [False, True])
def test_metadata_in_parquet_is_named_with_what_to_do(packed: bool, tmp_path: Path) -> None:
    folder = a_set(tmp_path / "set", ["0.png", "1.png"])
    (folder / "metadata.parquet").write_bytes(b"PAR1")
    source = open_source(str(zipped(folder, tmp_path / "x.zip") if packed else folder))
    (note,) = [note for note in source.notes if "parquet" in note]
    assert note.startswith("metadata.parquet is not read")
    assert "read_parquet('metadata.parquet')" in note
    assert note in "\n".join(gentool_command("data", "check", folder).lines)
