"""Write the report.

ray job submit --working-dir . -- python jobs/report.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
