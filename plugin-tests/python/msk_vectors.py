"""Prints tokens of AWS' signer for MSK as test vectors: src/auth/msk/vectors.json.

    pip install aws-msk-iam-sasl-signer-python==1.0.2
    python plugin-tests/python/msk_vectors.py > src/auth/msk/vectors.json

The signer has no parameter for the time and does not return its canonical request, so this script patches botocore,
which the signer uses.
"""

import base64
import datetime
import json

import aws_msk_iam_sasl_signer.MSKAuthTokenProvider as signer
import botocore.auth
from botocore.credentials import CredentialProvider, Credentials

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "octopus-test-secret/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "octopus-test-secret-session//=+token=="
CASES = [
    ("us-east-1", None, "2026-01-02T03:04:05"),
    ("us-east-1", SESSION_TOKEN, "2026-01-02T03:04:05"),
    ("eu-central-1", None, "2024-02-29T23:59:59"),
    ("ap-southeast-2", SESSION_TOKEN, "2038-01-19T03:14:08"),
    ("us-gov-west-1", None, "2030-12-31T00:00:00"),
    ("cn-north-1", SESSION_TOKEN, "2026-06-15T12:30:00"),
]


def vector(region, session_token, time):
    now = datetime.datetime.fromisoformat(time)
    # Sets the time that botocore signs with, in releases that have this function.
    botocore.auth.get_current_datetime = lambda remove_tzinfo=True: now
    canonical = []
    original = botocore.auth.SigV4Auth.canonical_request

    def record_canonical_request(self, request):
        canonical.append(original(self, request))
        return canonical[-1]

    class Provider(CredentialProvider):
        def load(self):
            return Credentials(ACCESS_KEY, SECRET_KEY, session_token)

    botocore.auth.SigV4Auth.canonical_request = record_canonical_request
    try:
        token, expires_ms = signer.generate_auth_token_from_credentials_provider(region, Provider())
    finally:
        botocore.auth.SigV4Auth.canonical_request = original
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    return {
        "region": region,
        "session_token": session_token,
        "seconds": int(now.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "canonical_request": canonical[-1],
        "url": url,
        "expires_ms": expires_ms,
    }


print(
    json.dumps(
        {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "vectors": [vector(*case) for case in CASES]}, indent=2
    )
)
