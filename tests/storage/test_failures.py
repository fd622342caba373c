"""What an object store says is told in one line that helps."""

from __future__ import annotations

import errno

import pytest

from geminga.errors import InputError
from geminga.storage.address import parse
from geminga.storage.failures import failure, told

ADDRESS = parse("s3://bkt/runs?endpoint_override=127.0.0.1:1&scheme=http")


# As pyarrow 25 says it, against SeaweedFS 4.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "When listing objects under key '' in bucket 'bkt': AWS Error SIGNATURE_DOES_NOT_MATCH "
            "during ListObjectsV2 operation: The request signature we calculated does not match",
            "refused the credentials: the secret .*AWS_SECRET_ACCESS_KEY",
        ),
        (
            "When listing objects under key '' in bucket 'bkt': AWS Error INVALID_ACCESS_KEY_ID "
            "during ListObjectsV2 operation: The access key ID you provided does not exist",
            "refused the credentials: unknown access key",
        ),
        (
            "When initiating multiple part upload for key 'runs/a.json' in bucket 'bkt': AWS Error "
            "ACCESS_DENIED during CreateMultipartUpload operation: Access Denied. (Request ID: 1)",
            r"refused access .CreateMultipartUpload of runs/a.json.*may read, list and write",
        ),
        (
            "When getting information for bucket 'bkt': AWS Error NETWORK_CONNECTION during "
            "HeadBucket operation: curlCode: 7, Could not connect to server",
            "does not answer .*endpoint_override",
        ),
        ("something\nnew", "failed .something new.*space left"),
    ],
)
def test_reasons(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error, failure(ADDRESS):
        raise OSError(text)
    assert str(error.value).startswith("s3://bkt/runs: ")
    assert "\n" not in str(error.value)


def test_a_full_disk_is_not_the_stores_fault() -> None:
    error = told(ADDRESS, OSError(errno.ENOSPC, "No space left on device", "/tmp/x"))
    assert "run.mirror" in str(error)
    assert error.where == "/tmp/x"
