"""Search for settings of a network and of its training.

ray job submit --entrypoint-num-cpus 0.1 --working-dir . -- \
    python jobs/tune_training.py --config jobs/configs/demo.yaml \
    --tuning jobs/configs/tune_training.yaml --set run.storage=file:///shared/folder
"""

import sys

import upload  # noqa: F401 - first, so that the package comes from this upload

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune-training", *sys.argv[1:]]))
