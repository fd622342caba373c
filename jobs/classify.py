"""Write the catalogue.

ray job submit --working-dir . -- python jobs/classify.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["classify", *sys.argv[1:]]))
