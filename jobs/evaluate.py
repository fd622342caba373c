"""Measure completeness, purity and confusion.

ray job submit --entrypoint-num-cpus 0.1 --working-dir . -- \
    python jobs/evaluate.py --config jobs/configs/demo.yaml --set run.storage=file:///shared/folder

The driver asks for a tenth of a core, because it waits for its workers nearly all the time: a whole
one would be missing to them, and with two cores trainers and their readers would wait for each other.
"""

import sys

import upload  # noqa: F401 - first, so that the package comes from this upload

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
