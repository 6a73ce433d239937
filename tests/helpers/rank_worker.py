"""One process of a training under torchrun; in the last of them something goes wrong on purpose.

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
