"""ONNX Runtime for browsers, which ``export --page`` puts into a page: found, checked and read.

The package ``onnxruntime-web`` of npm holds it (MIT licence): a program that loads WebAssembly, and
that WebAssembly for the CPU. Nothing is downloaded here. Files of a version that is not in
``PINNED`` are refused, unless the user trusts them.
"""

import re
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gentool.core.errors import UsageError

SCRIPT_NAME, WASM_NAME = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
# Version: SHA-256 of the script and of the WebAssembly. The newest is the last.
PINNED: dict[str, tuple[str, str]] = {
    "1.24.3": (
        "be0e129949062ad50290ef94683fac8be5bb6156f709e030b7a5f1661a2f6c17",
        "9f716d6e3c4280dcced6f0fcb9814c1d7630de83d8177880a2ef445fe48ca913",
    ),
    "1.27.0": (
        "d1ab1b94b16a65b29d710d0b587b29e7bed336827577623913479b8afe8113e6",
        "1db5e1c5cd2b860eed85e6eeff23e2aaa7cffcc407f67093bcc888f631b94ba9",
    ),
    "1.29.0": (
        "ec8580a9d7b9476ceee52e10a7f94124e4dc71a019d666ed6d4726697c109a4d",
        "7a3913dc5c7a9c3ad1144f5fbfecd402bc5013bcc886bc67664b18d8a15ab298",
    ),
    "1.30.0": (
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
_NEWEST = next(reversed(PINNED))
_MOST_BYTES = 2**26  # of one file
_MOST_MEMBERS = 10_000
_EXPORTS = re.compile(r"export\s*\{([^{}]*)\};?\s*(?://# sourceMappingURL=\S*\s*)?\Z")
_NAMES = ("InferenceSession", "Tensor", "env")
HOW_TO_GET = (
    f"Run npm pack onnxruntime-web@{_NEWEST}, and give --runtime onnxruntime-web-{_NEWEST}.tgz"
)


@dataclass(frozen=True)
class WebRuntime:
    """The two files of the runtime.

    Attributes:
        version: Its version; None if the files are not pinned.
        script: The program, without its last statement, which exports its names.
        names: An object of JavaScript with the names that the page uses.
        wasm: The WebAssembly.
        sha256: Hashes of both files.
    """

    version: str | None
    script: str
    names: str
    wasm: bytes
    sha256: tuple[str, str]


def read_runtime(path: Path, *, trusted: bool) -> WebRuntime:
    """Read the runtime from the archive of npm, from a folder, or from one of its two files.

    Args:
        path: ``onnxruntime-web-X.tgz``, a folder with the package or the files, or one of the files
            with the other beside it.
        trusted: Whether files of any hash are taken.

    Raises:
        UsageError: there is no runtime there, or it is not pinned and not trusted.
    """
    try:
        files = _of_archive(path) if path.suffix == ".tgz" else _of_folder(path)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UsageError(f"--runtime {path} cannot be read: {error!s:.80}. {HOW_TO_GET}") from error
    if files is None:
        raise UsageError(
            f"--runtime {path} does not hold {SCRIPT_NAME} and {WASM_NAME}. {HOW_TO_GET}"
        )
    script, wasm = files
    hashes = sha256(script).hexdigest(), sha256(wasm).hexdigest()
    version = next((name for name, pinned in PINNED.items() if pinned == hashes), None)
    if version is None and not trusted:
        raise UsageError(
            f"--runtime {path} is none of the versions that gentool knows by their hashes "
            f"({', '.join(PINNED)}). {HOW_TO_GET}; or add --trust-runtime if you trust these files"
        )
    code, names = _module(script, path)
    return WebRuntime(version, code, names, wasm, hashes)


def _of_archive(path: Path) -> tuple[bytes, bytes] | None:
    """Return both files of an archive; None if one is missing."""
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for number, member in enumerate(archive):
            name = member.name.rpartition("/")[2]
            if number > _MOST_MEMBERS or len(found) == 2:
                break
            if name in (SCRIPT_NAME, WASM_NAME) and member.isreg() and member.size <= _MOST_BYTES:
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                found[name] = content.read()
    return (found[SCRIPT_NAME], found[WASM_NAME]) if len(found) == 2 else None


def _of_folder(path: Path) -> tuple[bytes, bytes] | None:
    """Return both files of a folder, of its ``dist``, or beside a file; None if one is missing."""
    top = path if path.is_dir() else path.parent
    for folder in (top, top / "dist", top / "package" / "dist"):
        script, wasm = folder / SCRIPT_NAME, folder / WASM_NAME
        if all(f.is_file() and f.stat().st_size <= _MOST_BYTES for f in (script, wasm)):
            return script.read_bytes(), wasm.read_bytes()
    return None


def _module(data: bytes, path: Path) -> tuple[str, str]:
    """Return the script without its exports, and an object with the exports that are used.

    Raises:
        UsageError: the script has another form, or cannot be in a page.
    """
    text = data.decode("utf-8", "replace")
    found = _EXPORTS.search(text)
    pairs = re.findall(r"([\w$]+) as ([\w$]+)", found[1]) if found else []
    own = {outer: inner for inner, outer in pairs}
    if found is None or not set(_NAMES) <= own.keys() or re.search(r"</script|<!--", text, re.I):
        raise UsageError(
            f"--runtime {path}: {SCRIPT_NAME} has a form that gentool does not know. {HOW_TO_GET}"
        )
    return text[: found.start()], "{" + ", ".join(f"{n}: {own[n]}" for n in _NAMES) + "}"
