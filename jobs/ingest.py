"""Count event lists into maps, or read catalogues into tables.

ray job submit --entrypoint-num-cpus 0.1 --working-dir . -- \
    python jobs/ingest.py --config jobs/configs/demo.yaml --events /shared/events/*.fits \
    --out /shared/maps

Lists and maps lie where every node sees them.
"""

import sys

import upload  # noqa: F401 - first, so that the package comes from this upload

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
