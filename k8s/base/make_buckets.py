"""Make buckets in an S3 store: make_buckets.py ADDRESS BUCKET...; one that is there is kept.

The keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.
"""

import sys
from urllib.parse import urlsplit

from pyarrow.fs import S3FileSystem


def main(address: str, buckets: list[str]) -> None:
    """Make every bucket that is not there yet."""
    parts = urlsplit(address)
    store = S3FileSystem(
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        region="us-east-1",
        allow_bucket_creation=True,
    )
    for bucket in buckets:
        store.create_dir(bucket)
        sys.stdout.write(f"bucket {bucket} is there\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
