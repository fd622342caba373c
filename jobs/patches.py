"""Cut the skies into patches.

ray job submit --working-dir . -- python jobs/patches.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["patches", *sys.argv[1:]]))
