"""Search for MIUN's localisation settings.

ray job submit --entrypoint-num-cpus 0.1 --working-dir . -- \
    python jobs/tune_localisation.py --config jobs/configs/demo.yaml \
    --tuning jobs/configs/tune_localisation.yaml --set run.storage=file:///shared/folder
"""

import sys

import upload  # noqa: F401 - first, so that the package comes from this upload

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune-localisation", *sys.argv[1:]]))
