"""What the page of a model gets: its state, pictures, directions, photos, favourites."""

import asyncio
import io
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import draw as draw_photo
from conftest import gentool_command, start_gentool
from explorer import Explorer, moved, sample
from PIL import Image

import gentool
from gentool.checkpoint import read_file, write_file
from gentool.core.errors import GentoolError
from gentool.core.picture_files import read_recipe
from gentool.core.signals import StopFlag
from gentool.explore import desk
from gentool.explore.following import Stamp, Watch
from gentool.explore.serving import listen, serve
from gentool.explore.session import Session

FAMILIES = ["gan", "vae", "autoencoder", "fsq", "hvae", "stylegan2"]


@pytest.fixture(scope="module")
def of_gan(gan: Path) -> Iterator[Explorer]:
    with Explorer(gan) as explorer:
        yield explorer


@pytest.fixture(scope="module")
def of_vae(vae: Path) -> Iterator[Explorer]:
    with Explorer(vae) as explorer:
        yield explorer


def photo(number: int = 3) -> bytes:
    """A photo as PNG, larger than the images of the models."""
    out = io.BytesIO()
    Image.fromarray(draw_photo(number, 40)).save(out, "PNG")
    return out.getvalue()


def send_photo(explorer: Explorer, data: bytes) -> dict[str, object]:
    answer, body = explorer.ask("POST", "/photo", data, "application/octet-stream")
    assert answer.status == 200, body
    found: dict[str, object] = json.loads(body)
    return found


def test_the_page_tells_what_a_model_can_do(of_gan: Explorer, gan: Path) -> None:
    state = of_gan.told("/state")
    assert (state["height"], state["width"], state["channels"]) == (16, 16, 3)
    assert state["classes"] == ["bar", "disc"]
    assert [row["name"] for row in state["drawing"]] == ["truncation"]
    assert state["methods"] == ["principal", "sefa"]
    assert state["encoder"] is True
    assert state["search"] > 0
    assert state["images"] == 320
    assert of_gan.told("/pulse") == {
        "generation": 0, "images": 320, "training": False, "note": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_drawn_steered_and_written(
    name: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = trained(name)
    with Explorer(run) as explorer:
        state = explorer.told("/state")
        pictures = [sample(1, k) for k in range(3)]
        assert np.array_equal(explorer.draw(*pictures), gentool.load(run).sample(3, seed=1))
        pictures.append({"start": {"keys": pictures[:], "at": 1.3}})
        for by in state["methods"]:
            count = explorer.told("/directions", by=by)["count"]
            pictures.append(moved(pictures[0], (0, 1.5), (count - 1, -2), by=by))
        if not state["methods"]:
            answer, body = explorer.post("/directions", by="principal")
            assert answer.status == 400
            assert b"no directions" in body
        if state["encoder"]:
            pictures.append({"start": {"photo": send_photo(explorer, photo())["photo"]}})
        drawn = explorer.draw(*pictures)
        near = explorer.draw(pictures[-1], quick=True)[0].astype(int) - drawn[-1]
        assert np.abs(near).max() <= 1
        recipe, sheet = tmp_path / "recipe.toml", tmp_path / "sheet.png"
        recipe.write_bytes(explorer.file("/recipe", *pictures))
        done = gentool_command("sample", run, "--like", recipe, "-o", sheet, "--device", "cpu")
        assert done.code == 0, done.err
        assert sheet.read_bytes() == explorer.file("/sheet", *pictures)
        done = gentool_command("sample", run, "--like", recipe, "-o", tmp_path / "out")
        assert done.code == 0, done.err
        for path, pixels in zip(map(Path, done.lines), drawn, strict=True):
            assert np.array_equal(np.asarray(Image.open(path)), pixels)


def test_a_picture_is_the_file_that_sample_writes(
    of_gan: Explorer, gan: Path, tmp_path: Path
) -> None:
    picture = sample(7, 2, "disc", truncation=0.5)
    done = gentool_command(
        "sample", gan, "--seed", 7, "--start", 2, "-n", 1, "--class", "disc", "--truncation", 0.5,
        "-o", tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert Path(done.lines[0]).read_bytes() == of_gan.file("/picture", picture)


def test_the_commands_make_the_favourites_again(
    of_gan: Explorer, gan: Path, tmp_path: Path
) -> None:
    pictures = [sample(3, k) for k in (5, 1, 2)]
    pictures += [sample(3, 2, "bar"), sample(4, 0, truncation=0.25)]
    commands = of_gan.told("/commands", pictures=pictures)["commands"]
    assert [line.partition(str(gan))[2] for line in commands] == [
        " --seed 3 --start 1 -n 2 -o favourites",
        " --seed 3 --start 5 -n 1 -o favourites",
        " --seed 3 --start 2 -n 1 --class bar -o favourites",
        " --seed 4 --start 0 -n 1 --truncation 0.25 -o favourites",
    ]
    found = []
    for line in commands:
        done = gentool_command(*line.split()[1:], cwd=tmp_path)
        assert done.code == 0, done.err
        found += [np.asarray(Image.open(tmp_path / path)) for path in done.lines]
    wanted = of_gan.draw(*pictures)
    assert {image.tobytes() for image in found} == {image.tobytes() for image in wanted}
    more = of_gan.told("/commands", pictures=[*pictures, moved(pictures[0], (0, 1.0))])["commands"]
    assert more == [f"gentool sample {gan} --like recipe.toml -o favourites", *commands]


def test_a_sheet_holds_the_recipes_of_its_pictures(of_gan: Explorer) -> None:
    told = read_recipe(of_gan.file("/sheet", sample(1, 0), moved(sample(1, 5), (1, 2.0))))
    assert told is not None
    assert told["seed"] == [1, None]
    digests = told["point_sha256"]
    assert isinstance(digests, list)
    assert digests[0] is None
    assert len(str(digests[1])) == 64


def test_a_photo_is_reconstructed_and_can_be_walked_from(of_vae: Explorer, vae: Path) -> None:
    told = send_photo(of_vae, photo())
    start = {"start": {"photo": told["photo"]}}
    (original,) = np.frombuffer(
        of_vae.post("/original", photo=told["photo"])[1], np.uint8
    ).reshape(1, 16, 16, 3)  # fmt: skip
    assert np.array_equal(of_vae.draw(start)[0], gentool.load(vae).reconstruct(original[None])[0])
    assert not np.array_equal(of_vae.draw(start), of_vae.draw(moved(start, (0, 3.0))))
    answer, body = of_vae.ask("POST", "/photo", b"no image", "application/octet-stream")
    assert answer.status == 400
    assert "cannot be read" in json.loads(body)["error"]
    answer, body = of_vae.post("/draw", pictures=[{"start": {"photo": "0" * 16}}])
    assert "no longer kept" in json.loads(body)["error"]


def test_a_search_brings_a_photo_nearer(of_gan: Explorer) -> None:
    before = send_photo(of_gan, photo(5))
    old = {"start": {"photo": before["photo"]}}
    drawn = of_gan.draw(old)
    after = of_gan.told("/search", photo=before["photo"])
    assert after["psnr"] > before["psnr"]
    new = {"start": {"photo": after["photo"]}}
    assert np.array_equal(of_gan.draw(old), drawn)  # a favourite stays what it shows
    assert not np.array_equal(of_gan.draw(new), drawn)
    originals = [of_gan.post("/original", **one["start"])[1] for one in (old, new)]
    assert originals[0] == originals[1]
    answer, body = of_gan.post("/recipe", pictures=[new])
    assert answer.status == 200
    assert b"made_from" in body


def test_a_new_save_of_the_run_is_followed(
    gan: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(gan, tmp_path / "run"))
    (run / ".holder.json").unlink(missing_ok=True)
    with Explorer(run) as explorer:
        before = explorer.draw(sample(0, 0))
        new = run / "new.safetensors"
        shutil.copy(trained("vae") / "model.safetensors", new)
        new.replace(run / "model.safetensors")
        end = time.monotonic() + 20
        while explorer.told("/pulse")["generation"] == 0 and time.monotonic() < end:
            time.sleep(0.1)
        assert explorer.told("/state")["model"] == "vae"
        assert not np.array_equal(explorer.draw(sample(0, 0)), before)
        new.write_bytes(b"no model")
        new.replace(run / "model.safetensors")
        while not explorer.told("/pulse")["note"] and time.monotonic() < end:
            time.sleep(0.1)
        assert "cannot be used" in explorer.told("/pulse")["note"]
        assert explorer.draw(sample(0, 0)).shape == (1, 16, 16, 3)  # the old model goes on


class ChangingFile(Watch):
    """A watch that finds a new file until a model was loaded from it."""

    def changed(self) -> Stamp | None:
        """Return one stamp, until it is the one that is shown."""
        return (1, 1, 1) if self.seen is None else None


def test_a_save_that_cannot_be_loaded_is_tried_again(
    gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = gentool.load(gan, "cpu").loaded
    answers: list[Any] = [MemoryError("of the device"), OSError("gone"), loaded]
    notes = []

    def load(path: Path, device: str) -> Any:
        notes.append(at.note)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def follow() -> None:
        following = asyncio.create_task(at.follow())
        while at.session.generation == 0 and not following.done():
            await asyncio.sleep(0.02)
        following.cancel()

    monkeypatch.setattr(desk, "load_model", load)
    monkeypatch.setattr(desk, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(desk, "FOLLOW_SECONDS", 0.01)
    at = desk.Desk(Session(loaded), gan, "cpu", ChangingFile(gan, None), StopFlag())
    asyncio.run(asyncio.wait_for(follow(), 20))
    assert notes == [
        "", "The new save cannot be used: MemoryError: of the device",
        "The new save cannot be used: OSError: gone",
    ]  # fmt: skip
    assert (at.session.generation, at.note, at.watch.seen) == (1, "", (1, 1, 1))


def test_a_stop_during_loading_is_no_error(gan: Path) -> None:
    stop = StopFlag()
    told: list[object] = []
    stop.asked = signal.SIGINT
    serve(gan, "cpu", listen(0), stop, told.append)
    assert told == []


def test_a_server_that_ends_by_itself_is_an_error(
    gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(server: uvicorn.Server) -> None:
        server.should_exit = True

    monkeypatch.setattr(uvicorn.Server, "main_loop", end)
    with pytest.raises(GentoolError, match="ended by itself"):
        serve(gan, "cpu", listen(0), StopFlag(), lambda keys: None)


@pytest.fixture(scope="module")
def odd_names(gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes have names that are hard for headers and for commands."""
    header, tensors = read_file(gan / "model.safetensors")
    path = tmp_path_factory.mktemp("odd") / "model.safetensors"
    write_file(path, tensors, {**header, "classes": ["\u732b", "all"]})
    return path


def test_odd_names_of_classes_become_safe_names_of_files(odd_names: Path) -> None:
    with Explorer(odd_names) as explorer:
        for name in ("\u732b", "all"):
            answer, body = explorer.post("/picture", pictures=[sample(0, 0, name)])
            assert answer.status == 200, body
            told = answer.headers["Content-Disposition"]
            assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_-]+\.png"', told)


def test_a_class_named_all_is_made_again_from_the_recipe(odd_names: Path, tmp_path: Path) -> None:
    with Explorer(odd_names) as explorer:
        pictures = [sample(0, 1, "\u732b"), sample(0, 1, "all")]
        commands = explorer.told("/commands", pictures=pictures)["commands"]
        assert [line.partition(odd_names.name)[2] for line in commands] == [
            " --like recipe.toml -o favourites",
            " --seed 0 --start 1 -n 1 --class '\u732b' -o favourites",
        ]
        recipe = tmp_path / "recipe.toml"
        recipe.write_bytes(explorer.file("/recipe", *pictures))
        done = gentool_command("sample", odd_names, "--like", recipe, "-o", tmp_path / "out")
        assert done.code == 0, done.err
        found = [np.asarray(Image.open(path)) for path in done.lines]
        assert np.array_equal(found, explorer.draw(*pictures))


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_the_command_prints_its_address_and_ends_by_ctrl_c(gan: Path) -> None:
    process = start_gentool("explore", gan, "--no-open", "--device", "cpu")
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert err.decode().splitlines() == [
        "the page is open to this machine alone; Ctrl-C ends it", "the page has ended",
    ]  # fmt: skip


def test_a_missing_library_is_named(gan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = gentool_command("explore", gan)
    assert done.code == 2
    assert "pip install 'gentool[explore]'" in done.err


def test_a_port_in_use_is_told(of_gan: Explorer, gan: Path) -> None:
    done = gentool_command("explore", gan, "--port", of_gan.port, "--no-open")
    assert done.code == 2
    assert f"port {of_gan.port} of 127.0.0.1 cannot be used" in done.err


def test_a_model_that_is_none_is_told(tmp_path: Path) -> None:
    done = gentool_command("explore", tmp_path, "--no-open")
    assert done.code == 4
    assert "holds no model.safetensors" in done.err
