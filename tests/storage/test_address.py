from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from trueline.errors import InvalidProject
from trueline.settings import StateFolder
from trueline.storage import address, troubles
from trueline.storage.address import Patience, Service, parse
from trueline.storage.places import open_storage


@pytest.mark.parametrize("module", [address, troubles])
def test_the_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("url", ["s3://", "s3://a", "s3://Upper/case", "s3:/bucket", "s3://under_score/x"])
def test_what_is_no_bucket_is_refused(url):
    with pytest.raises(InvalidProject, match="expected s3://bucket/prefix"):
        parse(url, Service())


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://bucket/x"])
def test_other_services_are_refused(url, tmp_path):
    with pytest.raises(InvalidProject, match="expected s3://bucket/prefix or a folder"):
        open_storage(url, StateFolder(tmp_path))


def test_the_standard_variables_are_honoured():
    said = {"AWS_ENDPOINT_URL": "http://store:9000/", "AWS_DEFAULT_REGION": "eu-west-1"}
    service = Service.of(said)
    assert (service.scheme, service.host, service.region) == ("http", "store:9000", "eu-west-1")
    closer = Service.of(said | {"AWS_ENDPOINT_URL_S3": "https://s3.store", "AWS_REGION": "eu-north-1"})
    assert (closer.scheme, closer.host, closer.region) == ("https", "s3.store", "eu-north-1")
    nothing = Service.of({})
    assert (nothing.scheme, nothing.host, nothing.region) == ("https", None, None)


def test_delta_rs_is_told_to_commit_by_conditional_put_and_plain_http_only_where_it_is_meant():
    options = parse("s3://bucket/a", Service("http://store:9000")).delta_options(Patience())
    assert options["aws_conditional_put"] == "etag"
    assert options["aws_allow_http"] == "true"
    assert "aws_allow_http" not in parse("s3://bucket/a", Service()).delta_options(Patience())


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("Error performing PUT http://169.254.169.254/latest/api/token in 5s, after 3 retries", "no credentials"),
        ("client error (Connect)\n  dns error\n  failed to lookup address information", "its name cannot be found"),
        ("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 56, Failure receiving", "the line broke"),
        ("301 Moved Permanently <Error><Code>PermanentRedirect</Code></Error>", "another region; set AWS_REGION"),
        ("Kernel error -> \x1b[31m\u21b3\x1b[0m something\n   quite new", "Kernel error -> something quite new"),
        (ValueError(), "ValueError"),
        ("x" * 1000, "x" * 200 + "…"),
    ],
)
def test_what_was_said_elsewhere_is_understood_too(said, understood):
    assert understood in troubles.explain(said)


def test_the_page_says_what_to_do_about_each_trouble():
    page = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()
    assert [why for _, why, _ in troubles._SAYINGS if why not in page] == []
