"""References stand for secrets, and secrets are never printed."""

import pytest

from trueline.errors import InvalidProject
from trueline.settings import resolve, shown


def test_a_value_is_itself_a_variable_or_a_files_text(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", " postgresql://db/x\n")
    (tmp_path / "secret").write_text("postgresql://file/x\n")
    assert resolve("postgresql://h/d", "database") == "postgresql://h/d"
    assert resolve("env:DATABASE_URL", "database") == "postgresql://db/x"
    assert resolve("file:secret", "database", tmp_path) == "postgresql://file/x"
    assert resolve(f"file:{tmp_path}/secret", "database") == "postgresql://file/x"
    assert resolve("file:///mnt/shared", "storage") == "file:///mnt/shared"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "env:NOT_SET_ANYWHERE",
            "database is env:NOT_SET_ANYWHERE, but the environment variable NOT_SET_ANYWHERE is not set",
        ),
        ("env:EMPTY", "the environment variable EMPTY is not set"),
        ("file:none", "none cannot be read (No such file or directory)"),
        ("file:empty", "empty is empty"),
        ("file:bytes", "bytes cannot be read (it is not text)"),
    ],
)
def test_a_reference_to_nothing_is_one_sentence(text, said, tmp_path, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InvalidProject) as caught:
        resolve(text, "database", tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("postgresql://ann:s3cret@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("postgresql://ann:s3/c@r:t@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann@db/x?password=s3cret&sslmode=require", "postgresql://ann@db/x?password=***&sslmode=require"),
        ("https://s3crettoken@mlflow.acme/x", "https://***@mlflow.acme/x"),
        ("host=db user=ann password=s3cret dbname=x", "host=db user=ann password=*** dbname=x"),
        ("s3://bucket/x?aws_secret_access_key=s3cret", "s3://bucket/x?aws_secret_access_key=***"),
        ("env:DATABASE_URL", "env:DATABASE_URL"),
        ("postgresql://db/x", "postgresql://db/x"),
    ],
)
def test_a_password_is_hidden(url, printed):
    assert shown(url) == printed
    assert "s3c" not in shown(url)
