"""One process of a training under torchrun; a fault is injected into the last of them.

The first argument is a job of ``injected_faults`` as JSON, the others are those of the command.
"""

import json
import os
import sys

import injected_faults

from gentool.cli import main

job = json.loads(sys.argv.pop(1))
if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
    injected_faults.spoil(job)
main()
