"""Coverage-guided fuzzing of the code that opens model files; needs ``pip install '.[fuzz]'``.

    python tests/fuzz/fuzz_model_file.py -max_total_time=60

Options of libFuzzer may follow. The corpus begins with an intact file of every model. Each input
is also tested with a correct checksum, so that the fuzzer reaches the code behind it. Any error
but ``ModelFileError`` stops the fuzzer, and so does an input that takes 1 second or 1 GiB; the
input is then stored in a file ``crash-...``.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gentool", "json"]):
    from gentool.checkpoint import exported_tensors, load_model, model_header, write_file
    from gentool.core.errors import ModelFileError
    from gentool.core.images import ImageShape
    from gentool.core.options import from_json
    from gentool.models import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from forged_files import join, split

FOLDER = Path(tempfile.mkdtemp())
PATH = FOLDER / "model.safetensors"


def seeds(folder: Path) -> Path:
    """A small whole file of every model."""
    for name in MODELS:
        kind = MODELS.get(name)
        config = from_json(kind.Config, {"width": 4, "latent_size": 8})
        model = kind(config, ImageShape(16, 16, 1), 0)
        header = model_header(name, model, (), {"data": {"holdout": 0.1}})
        write_file(folder / name, exported_tensors(model), header)
    return folder


def one_input(data: bytes) -> None:
    """Open it as it is, and again with the checksum put right."""
    tries = [data]
    with contextlib.suppress(Exception):  # what cannot be taken apart is tried as it is
        tries.append(join(*split(data)))
    for content in tries:
        PATH.write_bytes(content)
        try:
            loaded = load_model(PATH)
            json.dumps(loaded.header)
        except ModelFileError:
            continue


if __name__ == "__main__":
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    options = ["-max_len=1048576", "-timeout=1", "-rss_limit_mb=1024", str(seeds(corpus))]
    atheris.Setup([*sys.argv, *options], one_input)
    atheris.Fuzz()
