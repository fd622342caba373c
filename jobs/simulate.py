"""Simulate the skies.

ray job submit --working-dir . -- python jobs/simulate.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["simulate", *sys.argv[1:]]))
