"""What an S3 service or the way to it said, as one sentence with what to do about it.

Delta-rs and PyArrow each wrap the service's answer in pages of their own. What counts is the service's error code, or
how the connection failed; both stand in the text.
"""

from __future__ import annotations

import re

KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
RIGHTS = "the key needs s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and s3:DeleteObject in it"
WAY = "check AWS_ENDPOINT_URL and the network"
AGAIN = "it is tried again"

_SAYINGS = (
    (r"169\.254\.169\.254|CredentialsNotLoaded|no credentials", "no credentials were found", KEYS),
    (r"InvalidAccessKeyId|INVALID_ACCESS_KEY_ID", "the access key is not known", KEYS),
    (r"SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH", "the secret key does not fit the access key", KEYS),
    (r"ExpiredToken|EXPIRED_TOKEN|InvalidToken|INVALID_.*TOKEN", "the session token has expired or is not valid", KEYS),
    (r"RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|RequestExpired", "this machine's clock is off", "set the clock"),
    (r"NoSuchBucket|NO_SUCH_BUCKET", "there is no such bucket", "make it, or correct its name"),
    (r"PermanentRedirect|AuthorizationHeaderMalformed", "the bucket is in another region", "set AWS_REGION to it"),
    (r"AccessDenied|ACCESS_DENIED|403 Forbidden|HTTP status 403", "access was denied", RIGHTS),
    (r"SlowDown|SLOW_DOWN|TooManyRequests|429 Too|HTTP status 429", "the service asks to slow down", AGAIN),
    (r"\b5\d\d (?:[A-Z]|<)|HTTP status 5\d\d|InternalError|INTERNAL_FAILURE", "the service failed", AGAIN),
    (r"timed out|Timeout was reached|too slow", "the service did not answer in time", f"{AGAIN}; {WAY}"),
    (r"[Cc]onnection refused|Could not connect|tcp connect error", "nobody answers at its address", f"{AGAIN}; {WAY}"),
    (r"dns error|Could not resolve|lookup address", "its name cannot be found", WAY),
    (r"error sending request|NETWORK_CONNECTION|connection closed|incomplete message", "the line broke", AGAIN),
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 200


def explain(problem: object) -> str:
    """Why, and what to do; what is not known here is told in its own first words.

    >>> explain("Generic S3 error ↳ 503 Service Unavailable ↳ <Error><Code>SlowDown</Code></Error>")
    'the service asks to slow down; it is tried again'
    >>> explain("No space left on device (os error 28)")
    'No space left on device (os error 28)'
    """
    text = _COLOURS.sub("", str(problem)).replace("↳", " ")
    for pattern, why, what_to_do in _SAYINGS:
        if re.search(pattern, text):
            return f"{why}; {what_to_do}"
    words = " ".join(text.split()) or type(problem).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
