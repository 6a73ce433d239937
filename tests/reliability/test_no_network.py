"""No command uses a network except with ``--download`` or an address."""

import json
from pathlib import Path

from conftest import TINY, run_python

PROGRAM = """
import json, sys
met, network = [], ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.send")
sys.addaudithook(lambda event, _: met.append(event) if event.startswith(network) else None)
import gentool.cli
for line in json.loads(sys.argv[1]):
    sys.argv[1:] = line
    try:
        gentool.cli.main()
    except SystemExit as ended:
        assert not ended.code, (line, ended.code)
import socket
assert not met, met
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9))
assert met, "the hook sees nothing"
"""


def test_training_and_using_a_model_touch_no_network(image_folder: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", image_folder
    lines: list[list[object]] = [
        ["train", "vae", "--data", data, "--out", run, "--images", 64, "--holdout", 0.2, *TINY],
        ["sample", run, "-n", 2, "-o", tmp_path / "out"],
        ["reconstruct", run, data / "bar" / "001.png", "-o", tmp_path / "sheet.png"],
        ["evaluate", run, "--data", data, "--features", "random", "-n", 32, "--split", "all"],
        ["info", run, "--verify"],
        ["data", "check", data],
    ]
    done = run_python("-c", PROGRAM, json.dumps([[str(word) for word in line] for line in lines]))
    assert done.code == 0, done.err
