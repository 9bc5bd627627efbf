"""Which user store a command uses: from the command line, the environment or a file, else an embedded one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis
import typer
from typer.testing import CliRunner

from offline.errors import InputError
from terrace.cli.options import STORE_DATA, StoreData, StoreUrl, StoreUrlFile, user_store

if TYPE_CHECKING:
    from pathlib import Path


URL = "redis://:hunter2@host/0"
app = typer.Typer()


@app.command()
def show(store_url: StoreUrl = None, store_url_file: StoreUrlFile = None, data: StoreData = STORE_DATA) -> None:
    with user_store(store_url, store_url_file, data) as url:
        typer.echo(f"url {url}")


def run(*arguments: object, **environment: str) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def test_the_environment_and_a_file_give_the_url_without_a_warning(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{URL}\n", encoding="utf-8")

    for result in (
        run(TERRACE_STORE_URL=URL),
        run("--store-url-file", secret),
        run(TERRACE_STORE_URL_FILE=str(secret)),
    ):
        assert result.output == f"url {URL}\n"


def test_a_password_in_the_command_line_is_warned_of_and_not_repeated() -> None:
    result = run("--store-url", URL)
    plain = run("--store-url", "redis://host")

    assert result.stdout == f"url {URL}\n"
    assert "TERRACE_STORE_URL" in result.stderr
    assert "hunter2" not in result.stderr
    assert plain.stderr == ""


def test_a_url_and_a_file_are_one_too_many(tmp_path: Path) -> None:
    result = run("--store-url-file", tmp_path / "secret", TERRACE_STORE_URL=URL)

    assert result.exit_code == 2
    assert "TERRACE_STORE_URL" in result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("content", "wrong"), [(None, "cannot be read"), (b" \n", "is empty"), (b"\xff", "cannot be read")]
)
def test_a_file_that_holds_no_url_is_named(tmp_path: Path, content: bytes | None, wrong: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)

    with (
        pytest.raises(InputError, match=f"--store-url-file {tmp_path / 'secret'}: {wrong}"),
        user_store(None, tmp_path / "secret", tmp_path),
    ):
        pass


def test_without_a_url_an_embedded_store_runs_until_the_command_ends(tmp_path: Path) -> None:
    with user_store(None, None, tmp_path) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_an_embedded_store_that_is_in_use_is_an_error_for_the_user(tmp_path: Path) -> None:
    with user_store(None, None, tmp_path), pytest.raises(InputError, match="in use"), user_store(None, None, tmp_path):
        pass
