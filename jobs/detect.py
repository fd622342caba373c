"""Search for sources.

ray job submit --working-dir . -- python jobs/detect.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
