"""Train the classifier.

ray job submit --working-dir . -- python jobs/train_classifier.py --config jobs/configs/demo.yaml
"""

import sys

from geminga.cli import main

if __name__ == "__main__":
    sys.exit(main(["train-classifier", *sys.argv[1:]]))
