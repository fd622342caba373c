"""Run the whole pipeline.

ray job submit --working-dir . -- python jobs/pipeline.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
