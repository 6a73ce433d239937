"""Sources: which images of folders, zips and built-in sets are found, and their names."""

import io
import multiprocessing
import pickle
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGES, ROOT, draw, run_python, write_images
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape
from gentool.data import (
    IMAGE_SUFFIXES,
    Preprocessing,
    Source,
    open_dataset,
    open_source,
    parse_size,
)
from gentool.data.encoded import FORMATS
from gentool.data.sources.builtin import BUILTIN
from gentool.data.sources.selection import SUFFIXES
from gentool.data.sources.table import FileSource

SHARED = ROOT.parent / "shared" / "data"


def zip_of(folder: Path, path: Path, top: str = "") -> Path:
    """A zip of the files in a folder, below ``top``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    return path


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_is_searched_deeply(tmp_path: Path) -> None:
    for k, place in enumerate(("a.png", "b/c.png", "b/d/e/f.png", "b/d/g.png")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(k)).save(tmp_path / place)
    assert open_source(str(tmp_path)).paths == ("a.png", "b/c.png", "b/d/e/f.png", "b/d/g.png")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".psd"}))  # Pillow writes none
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_every_suffix_counts_in_any_case(
    suffix: str, change: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / f"image{change(suffix)}"
    Image.fromarray(draw(0)).save(path, next(k for k, v in SUFFIXES.items() if suffix in v.split()))
    source = open_source(str(tmp_path))
    assert source.paths == (path.name,)
    dataset = open_dataset(str(tmp_path), "16", "rgb")
    assert dataset.bad == ()
    # JPEG, WebP and GIF lose a little
    assert np.abs(dataset.images[0].astype(int) - draw(0)).mean() < 12


def test_the_suffixes_are_those_that_are_promised() -> None:
    promised = (
        "`.jpg .jpeg .jfif .jpe .jfi .jif .pjpeg .pjp .mpo .png .apng .webp .bmp .dib .gif .tif"
    )
    promised += " .tiff .ppm .pgm .pbm .pnm .qoi .dds .sgi .pcx .tga .ico .psd"
    promised += " .avif .avifs .jp2 .j2k .j2c .jpc .jpf .jpx`"
    assert set(promised.strip("`").split()) == set(" ".join(SUFFIXES.values()).split())
    assert promised in " ".join((ROOT / "README.md").read_text().split())
    assert {s for kind in FORMATS for s in SUFFIXES[kind].split()} == IMAGE_SUFFIXES


def test_hidden_files_and_folders_and_other_files_are_passed_over(tmp_path: Path) -> None:
    hidden = (".hidden.png", "._good.png", ".git/x.png", "a/.cache/b/y.png", "__MACOSX/good.png")
    others = ("notes.txt", "archive.zip", "image.png.bak", "png")
    for place in ("good.png", *hidden, *others):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(0)).save(tmp_path / place, "PNG")
    assert open_source(str(tmp_path)).paths == ("good.png",)


def test_a_folder_may_itself_be_hidden(tmp_path: Path) -> None:
    write_images(tmp_path / ".secret", 2)
    assert len(open_source(str(tmp_path / ".secret"))) == 2


def test_a_link_back_to_the_folder_is_not_followed_for_ever(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    (tmp_path / "bar" / "loop").symlink_to(tmp_path)
    assert len(open_source(str(tmp_path))) == 4


def test_names_that_are_no_ascii_work(tmp_path: Path) -> None:
    folder = tmp_path / "Bilder für José"
    write_images(folder, 2)
    (folder / "bar" / "001.png").rename(folder / "bar" / "日本 \n.png")
    dataset = open_dataset(str(folder), "16", "rgb")
    assert len(dataset) == 2
    assert dataset.name == folder.name


def test_top_folders_are_classes(image_folder: Path) -> None:
    source = open_source(str(image_folder))
    assert source.classes == ("bar", "disc")
    assert source.labels is not None
    assert [source.classes[k] for k in source.labels] == [p.split("/")[0] for p in source.paths]
    assert np.bincount(source.labels).tolist() == [IMAGES // 2, IMAGES // 2]


@pytest.mark.parametrize(
    "extra", ["loose.png", None], ids=["an image beside the folders", "one folder"]
)
def test_without_a_folder_for_each_image_there_are_no_classes(
    extra: str | None, tmp_path: Path
) -> None:
    write_images(tmp_path, 4)
    if extra:
        Image.fromarray(draw(0)).save(tmp_path / extra)
    else:
        shutil.rmtree(tmp_path / "bar")
    source = open_source(str(tmp_path))
    assert source.classes == ()
    assert source.labels is None


def test_folders_within_class_folders_are_no_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "one", 4)
    write_images(tmp_path / "two", 4)
    assert open_source(str(tmp_path)).classes == ("one", "two")


def test_labels_stay_with_their_images_when_a_file_is_broken(tmp_path: Path) -> None:
    write_images(tmp_path, 6)
    (tmp_path / "bar" / "001.png").write_bytes(b"broken")
    dataset = open_dataset(str(tmp_path), "16", "rgb", max_bad=0.5)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    for image, number in zip(dataset.images[:], (3, 5, 0, 2, 4), strict=True):
        assert np.array_equal(image, draw(number))


# --- zips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", "toys/", "a/b/toys/"])
def test_a_zip_equals_its_folder_pixel_for_pixel(
    top: str, image_folder: Path, tmp_path: Path
) -> None:
    archive = zip_of(image_folder, tmp_path / "toys.zip", top)
    from_folder = open_dataset(str(image_folder), "20", "rgb")
    from_zip = open_dataset(str(archive), "20", "rgb")
    assert np.array_equal(from_folder.images[:], from_zip.images[:])
    assert from_folder.labels is not None
    assert from_zip.labels is not None
    assert from_folder.labels.tolist() == from_zip.labels.tolist()
    assert from_folder.classes == from_zip.classes == ("bar", "disc")
    assert from_folder.fingerprint == from_zip.fingerprint
    assert open_source(str(archive)).paths == open_source(str(image_folder)).paths


def test_a_zip_of_one_class_folder_has_no_classes(image_folder: Path, tmp_path: Path) -> None:
    source = open_source(str(zip_of(image_folder / "bar", tmp_path / "x.zip", "bar/")))
    assert source.classes == ()
    assert source.paths[0] == "001.png"


def test_hidden_members_of_a_zip_are_passed_over(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    png = (tmp_path / "in" / "bar" / "001.png").read_bytes()
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("good.PNG", "__MACOSX/._good.png", ".hidden/a.png", "._b.png", "readme.txt",
                     "folder.png/"):  # fmt: skip
            archive.writestr(name, png)
    assert open_source(str(path)).paths == ("good.PNG",)


def test_a_zip_needs_no_suffix(image_folder: Path, tmp_path: Path) -> None:
    assert len(open_source(str(zip_of(image_folder, tmp_path / "pack")))) == IMAGES


def test_a_damaged_member_is_left_out_and_named(image_folder: Path, tmp_path: Path) -> None:
    """One byte of the stored data is changed, so that its checksum fails."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in ("001.png", "003.png"):
            archive.write(image_folder / "bar" / name, name)
        where = archive.getinfo("003.png").header_offset + 80
    data = bytearray(path.read_bytes())
    data[where] ^= 255
    path.write_bytes(data)
    dataset = open_dataset(str(path), "16", "rgb", max_bad=0.5)
    assert len(dataset) == 1
    ((name, reason),) = dataset.bad
    assert name == "003.png"
    assert "CRC" in reason


# --- built-in sets ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_sets_have_their_own_size_and_count(name: str) -> None:
    source = open_source(f"builtin:{name}")
    drawn = BUILTIN.get(name)
    assert len(source) == drawn.default_count
    assert (source.name, source.classes) == (name, drawn.classes)
    count = max(60, drawn.multiple_of)
    dataset = open_dataset(f"builtin:{name}:{count}")
    assert dataset.images.shape == (count, drawn.default_side, drawn.default_side, drawn.channels)
    for k in (0, 7, 59):
        wanted = drawn.render(k, drawn.default_side, drawn.default_side)
        assert np.array_equal(dataset.images[k], wanted)
    if not drawn.classes:
        assert dataset.labels is None
        return
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [drawn.label(k) for k in range(60)]


def test_a_larger_builtin_set_begins_with_the_smaller_one() -> None:
    few, many = open_dataset("builtin:shapes:20"), open_dataset("builtin:shapes:50")
    assert np.array_equal(few.images[:], many.images[:20])
    assert few.fingerprint != many.fingerprint


def test_builtin_sets_come_in_any_size_and_mode() -> None:
    assert open_dataset("builtin:shapes:5", "20x48", "grey").images.shape == (5, 20, 48, 1)
    rgba = open_dataset("builtin:digits:5", "16", "rgba").images
    assert rgba.shape == (5, 16, 16, 4)
    assert (rgba[:][..., 3] == 255).all()


@pytest.mark.parametrize(
    "spec", ["builtin:shapes:0", "builtin:shapes:-1", "builtin:shapes:x", "builtin:shapes:1.5",
             f"builtin:shapes:{2**32 + 1}", f"builtin:shapes:{'9' * 5000}", "builtin:", "builtin:x"]
)  # fmt: skip
def test_builtin_sets_that_are_none(spec: str) -> None:
    with pytest.raises(UsageError):
        open_source(spec)


# --- specs --------------------------------------------------------------------------------------


def test_a_source_is_named_after_its_folder_or_file(image_folder: Path, tmp_path: Path) -> None:
    assert open_source(str(image_folder)).name == "toys"
    assert open_source(f"{image_folder}/").name == "toys"
    assert open_source(str(zip_of(image_folder, tmp_path / "pack.v2.zip"))).name == "pack.v2"


def test_the_current_folder_has_a_name(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder)
    assert open_source(".").name == "toys"


@pytest.mark.parametrize("spec", ["nowhere", "", "\0", "x" * 5000])
def test_a_spec_of_nothing_is_unusable_data(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        open_source(spec)


@pytest.mark.parametrize(("word", "size"), [
    ("64", (64, 64)), ("48x64", (48, 64)), ("48X64", (48, 64)), (" 16 x 20 ", (16, 20)),
    ("512", (512, 512)),
])  # fmt: skip
def test_sizes(word: str, size: tuple[int, int]) -> None:
    assert parse_size(word) == size


def test_fingerprints_differ_with_names_sizes_and_times(image_folder: Path, tmp_path: Path) -> None:
    def copied(name: str) -> tuple[Path, Source]:
        shutil.copytree(image_folder, tmp_path / name)  # copytree keeps times
        return tmp_path / name, open_source(str(tmp_path / name))

    base, source = copied("base")
    assert copied("same")[1].fingerprint == source.fingerprint
    renamed, _ = copied("renamed")
    (renamed / "bar" / "001.png").rename(renamed / "bar" / "x.png")
    touched, _ = copied("touched")
    (touched / "bar" / "001.png").touch()
    fewer, _ = copied("fewer")
    (fewer / "bar" / "001.png").unlink()
    found = {open_source(str(p)).fingerprint for p in (base, renamed, touched, fewer)}
    assert len(found) == 4


def test_data_starts_without_torch(image_folder: Path, tmp_path: Path) -> None:
    """A worker process must be there at once."""
    archive = zip_of(image_folder, tmp_path / "x.zip")
    code = f"""
import sys
from gentool.data import Preprocessing, open_source
from gentool.core.images import ImageShape
for spec in ({str(image_folder)!r}, {str(archive)!r}, "builtin:shapes:3"):
    open_source(spec).load(0, Preprocessing(ImageShape(16, 16, 3)))
print(sorted({{"torch", "torchvision", "datasets", "litdata", "fsspec"}} & set(sys.modules)))
"""
    assert run_python("-c", code).lines == ["[]"]


@pytest.mark.parametrize("kind", ["folder", "zip", "builtin"])
def test_a_source_travels_to_a_worker(kind: str, image_folder: Path, tmp_path: Path) -> None:
    spec = {"folder": str(image_folder), "builtin": "builtin:digits:1000"}.get(kind)
    source = open_source(spec or str(zip_of(image_folder, tmp_path / "x.zip")))
    assert source.labels is not None  # looked at before, as training does
    assert source.access == "processes"
    words = pickle.dumps(source)
    assert len(words) < 40 * IMAGES + 2000
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(source.load, 3, Preprocessing(ImageShape(16, 16, 3))).result()
    here = source.load(3, Preprocessing(ImageShape(16, 16, 3)))
    assert np.array_equal(found.pixels, here.pixels)
    assert found.content_hash == here.content_hash


# --- real images --------------------------------------------------------------------------------


def some_members(name: str, count: int, path: Path) -> FileSource:
    """A zip of a few members of a shared zip, evenly spread."""
    whole = SHARED / name
    if not whole.is_file():
        pytest.skip(f"{name} is not here")
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as out:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        for member in names[:: len(names) // count][:count]:
            out.writestr(member, archive.read(member))
    source = open_source(str(path))
    assert isinstance(source, FileSource)
    return source


def test_real_faces_have_four_classes_and_fit_a_small_size(tmp_path: Path) -> None:
    source = some_members("faces.zip", 40, tmp_path / "faces.zip")
    assert source.classes == ("avataaars", "personas", "pixelArt", "toonHead")
    dataset = open_dataset(str(tmp_path / "faces.zip"), "32", "rgb")
    assert dataset.bad == ()
    assert dataset.images.shape == (40, 32, 32, 3)
    assert all(image.std() > 5 for image in dataset.images[:])


def test_real_flags_of_many_sizes_become_one_shape(tmp_path: Path) -> None:
    source = some_members("flags.zip", 30, tmp_path / "flags.zip")
    sizes = {Image.open(io.BytesIO(source.read(k))).size for k in range(len(source))}
    assert len(sizes) > 5
    dataset = open_dataset(str(tmp_path / "flags.zip"))
    assert dataset.bad == ()
    assert len(dataset) == len(source)
    assert dataset.shape.width > dataset.shape.height
    assert all(image.std() > 1 for image in dataset.images[:])
