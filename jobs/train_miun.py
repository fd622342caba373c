"""Train MIUN.

ray job submit --working-dir . -- python jobs/train_miun.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["train-miun", *sys.argv[1:]]))
