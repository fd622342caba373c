"""Measure completeness, purity and confusion.

ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
