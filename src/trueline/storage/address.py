"""Where an S3 bucket is: from `s3://bucket/prefix` and the standard AWS variables to what its clients want to know.

Credentials are no part of it: each client finds them where AWS' own tools do (environment, profile, instance).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trueline.errors import InvalidProject
from trueline.settings import shown

_URL = re.compile(r"s3a?://(?P<bucket>[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


@dataclass(frozen=True)
class Patience:
    """How long to wait for the service, and how often to ask again before saying so."""

    connect_seconds: float = 5.0
    request_seconds: float = 30.0
    attempts: int = 4


@dataclass(frozen=True)
class Service:
    """Whose S3 it is; nothing said means Amazon's."""

    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Service:
        """As the standard variables tell."""
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        return cls(endpoint or None, environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None)

    @property
    def scheme(self) -> str:
        return "http" if self.endpoint is not None and self.endpoint.startswith("http://") else "https"

    @property
    def host(self) -> str | None:
        return None if self.endpoint is None else self.endpoint.split("://", 1)[-1].rstrip("/")


@dataclass(frozen=True)
class Address:
    bucket: str
    prefix: str
    service: Service

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def delta_options(self, patience: Patience) -> dict[str, str]:
        """For delta-rs: commits by conditional put, so that no lock table is needed beside the bucket."""
        return self._options() | {
            "aws_conditional_put": "etag",
            "connect_timeout": f"{patience.connect_seconds:g}s",
            "timeout": f"{patience.request_seconds:g}s",
            "max_retries": str(patience.attempts - 1),
            "retry_timeout": f"{patience.request_seconds * 2:g}s",
        }

    def polars_options(self, patience: Patience) -> dict[str, Any]:
        return self._options() | {"max_retries": patience.attempts - 1}

    def _options(self) -> dict[str, str]:
        said = {"aws_endpoint_url": self.service.endpoint, "aws_region": self.service.region}
        allowed = {"aws_allow_http": "true"} if self.service.scheme == "http" else {}
        return {name: value for name, value in said.items() if value is not None} | allowed


def parse(url: str, service: Service, key: str = "storage") -> Address:
    """The bucket and prefix of an `s3://` URL.

    >>> parse("s3://models/flights/", Service()).url
    's3://models/flights'
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise InvalidProject(
            f"{key} is {shown(url)}; expected s3://bucket/prefix, the bucket in lower-case letters and digits"
        )
    return Address(found["bucket"], (found["prefix"] or "").strip("/"), service)


def is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))
