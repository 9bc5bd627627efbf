"""Bundle stores: a folder, fsspec's memory, and S3 as a server on a port speaks it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import fsspec
import pytest

from core.manifest import BundleError
from server.release import bundle_cache, bundle_copy, object_store
from server.release.bundle_copy import BundleStoreError
from server.release.bundle_store import open_store
from tests.contracts.bundle_store_contract import (
    BUNDLE_BYTES,
    CONTENT,
    NEW,
    OLD,
    BundleStoreContract,
    is_whole,
    write_bundle,
)
from tests.contracts.cached_bundle_store_contract import CachedBundleStoreContract, cached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from server.release.bundle_store import BundleStore

FETCHER = """
import sys
from pathlib import Path
from server.release.bundle_store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(store.fetch(sys.argv[3]))
"""
IMPORTED = "print({'grpc', 'numpy', 'fsspec', 's3fs', 'redis'} & sys.modules.keys())"
KILLED = 9
DYING = f"""
import os
from server.release import bundle_copy
bundle_copy._sync = lambda folder: os._exit({KILLED})
"""


class FolderPlace:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def open(self) -> BundleStore:
        return open_store(str(self.folder))

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()


class StoragePlace:
    def __init__(self, url: str, cache: Path) -> None:
        self.url, self.cache = url, cache
        self.storage = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)[0]

    def open(self, max_cache_bytes: int = 100 * BUNDLE_BYTES) -> BundleStore:
        return open_store(self.url, self.cache, max_cache_bytes)

    def write(self, name: str, content: bytes) -> None:
        self.storage.pipe_file(f"{self.url}/{name}", content)

    def read(self, name: str) -> bytes:
        content: bytes = self.storage.cat_file(f"{self.url}/{name}")
        return content

    def delete(self, name: str) -> None:
        self.storage.rm_file(f"{self.url}/{name}")


class TestFolder(BundleStoreContract):
    steps_of_a_push = len(CONTENT) + 1  # then the folder is renamed

    @pytest.fixture
    def place(self, tmp_path: Path) -> FolderPlace:
        return FolderPlace(tmp_path / "bundles")

    def test_a_bundle_is_used_in_place(self, place: FolderPlace, bundle: Path) -> None:
        place.open().push(bundle)

        assert place.open().fetch(OLD) == place.folder / OLD
        assert open_store(place.folder.as_uri()).fetch(OLD) == place.folder / OLD

    def test_drafts_are_no_bundles(self, place: FolderPlace) -> None:
        write_bundle(place.folder / f".draft-{OLD}")

        assert place.open().versions() == place.open().unfinished() == []

    def test_a_folder_that_is_not_there_is_named_and_not_made(self, tmp_path: Path, bundle: Path) -> None:
        store = open_store(str(tmp_path / "not mounted"))
        for ask in (store.versions, store.unfinished, lambda: store.push(bundle)):
            with pytest.raises(BundleStoreError, match="not mounted: no such folder of bundles"):
                ask()

    def test_a_folder_that_must_not_be_written_to_is_named(self, place: FolderPlace, bundle: Path) -> None:
        place.folder.chmod(0o500)
        if os.access(place.folder, os.W_OK):
            pytest.skip("root may write everywhere")
        with pytest.raises(BundleStoreError, match=r"bundles/.lock: Permission denied. Give this user the right"):
            place.open().push(bundle)
        place.folder.chmod(0o700)

    def test_a_file_where_the_folder_should_be_is_named(self, tmp_path: Path, bundle: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(BundleStoreError, match="file: no such folder of bundles"):
            open_store(str(tmp_path / "file")).push(bundle)


class TestMemory(CachedBundleStoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> StoragePlace:
        return StoragePlace(f"memory://{uuid.uuid4().hex}/bundles", tmp_path / "cache")

    @pytest.fixture
    def limited(self, place: StoragePlace) -> Callable[[int], BundleStore]:
        return lambda bundles: place.open(bundles * BUNDLE_BYTES + BUNDLE_BYTES // 2)

    def test_two_stores_with_the_same_version_share_a_cache(self, place: StoragePlace, bundle: Path) -> None:
        other = StoragePlace(f"memory://{uuid.uuid4().hex}", place.cache)
        place.open().push(bundle)
        other.open().push(write_bundle(bundle.parent / "unsigned"))

        folders = place.open().fetch(OLD), other.open().fetch(OLD)

        assert [(folder / "manifest.sig").exists() for folder in folders] == [True, False]

    def test_a_cache_that_was_filled_and_then_made_read_only_is_used(
        self, place: StoragePlace, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.open().push(bundle)
        folder = place.open().fetch(OLD)

        def read_only(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(bundle_cache.os, "utime", read_only)

        assert place.open().fetch(OLD) == folder

    @pytest.mark.parametrize("failing", ["fsync", "rename"])
    def test_a_full_disk_is_named_and_nothing_is_left(
        self, place: StoragePlace, bundle: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        place.open().push(bundle)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(*((bundle_copy.os, "fsync") if failing == "fsync" else (Path, "rename")), full)
            with pytest.raises(BundleStoreError, match=f"{place.cache}: No space left on device. Free space"):
                place.open().fetch(OLD)

        assert not [path for path in place.cache.rglob("*") if path.is_file() and path.name != ".lock"]
        assert is_whole(place.open().fetch(OLD))


class TestS3(CachedBundleStoreContract):
    @pytest.fixture
    def place(self, s3: str, tmp_path: Path) -> StoragePlace:
        return StoragePlace(f"s3://{make_bucket(s3)}/some/prefix", tmp_path / "cache")

    @pytest.fixture
    def limited(self, place: StoragePlace) -> Callable[[int], BundleStore]:
        return lambda bundles: place.open(bundles * BUNDLE_BYTES + BUNDLE_BYTES // 2)

    def test_a_bucket_without_a_prefix_is_a_store(self, s3: str, tmp_path: Path, bundle: Path) -> None:
        store = open_store(f"s3://{make_bucket(s3)}", tmp_path / "cache")
        assert store.versions() == []
        store.push(bundle)

        assert store.versions() == [OLD]
        assert is_whole(store.fetch(OLD))

    def test_processes_that_fetch_at_once_all_get_it(self, place: StoragePlace, bundle: Path) -> None:
        place.open().push(bundle)
        fetchers = [
            subprocess.Popen(
                [sys.executable, "-c", FETCHER, place.url, str(place.cache), OLD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for fetcher in fetchers:
            assert fetcher.stdout is not None
            assert fetcher.stdout.readline() == "ready\n"
        for fetcher in fetchers:
            assert fetcher.stdin is not None
            fetcher.stdin.write("go\n")
            fetcher.stdin.flush()
        found = {fetcher.communicate(timeout=120)[0].strip() for fetcher in fetchers}

        assert [fetcher.returncode for fetcher in fetchers] == [0, 0]
        assert found == {str(place.open().fetch(OLD))}
        assert is_whole(Path(found.pop()))

    def test_what_is_in_the_cache_is_fetched_without_a_package_for_storage(
        self, place: StoragePlace, bundle: Path
    ) -> None:
        place.open().push(bundle)
        folder = place.open().fetch(OLD)
        fetched = subprocess.run(
            [sys.executable, "-c", FETCHER + IMPORTED, place.url, str(place.cache), OLD],
            input="go\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )

        assert fetched.stdout.splitlines() == ["ready", str(folder), "set()"]

    def test_a_download_that_was_killed_is_made_again(self, place: StoragePlace, bundle: Path) -> None:
        place.open().push(bundle)
        died = subprocess.run(
            [sys.executable, "-c", DYING + FETCHER, place.url, str(place.cache), OLD],
            input="go\n",
            text=True,
            check=False,
            timeout=120,
        )
        assert died.returncode == KILLED
        assert list(place.cache.rglob(".partial-*"))

        folder = place.open().fetch(OLD)

        assert is_whole(folder)
        assert cached(folder) == {OLD}


class TestS3Errors:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return write_bundle(tmp_path / "built" / OLD)

    @pytest.mark.parametrize("prefix", ["", "/some/prefix"])
    @pytest.mark.usefixtures("s3")
    def test_a_bucket_that_is_not_there_is_named(self, tmp_path: Path, bundle: Path, prefix: str) -> None:
        store = open_store(f"s3://nowhere{prefix}", tmp_path / "cache")
        for ask in (store.versions, lambda: store.push(bundle), lambda: store.fetch(OLD), lambda: store.remove(OLD)):
            with pytest.raises(BundleStoreError, match=rf"s3://nowhere{prefix}: there is no bucket nowhere"):
                ask()

    def test_credentials_that_nobody_knows_are_refused(self, s3: str, tmp_path: Path) -> None:
        url = f"s3://{make_bucket(s3)}/prefix"
        with (
            rights_enforced(s3),
            pytest.raises(BundleStoreError, match=rf"{url}: refused: .* The credentials that the environment gives"),
        ):
            open_store(url, tmp_path / "cache").versions()

    def test_who_may_only_read_can_fetch_and_neither_push_nor_remove(
        self, s3: str, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"s3://{make_bucket(s3)}/prefix"
        open_store(url, tmp_path / "cache").push(bundle)
        for name, value in reader_keys(s3).items():
            monkeypatch.setenv(name, value)
        store = open_store(url, tmp_path / "cache")
        newer = write_bundle(tmp_path / "built" / NEW, NEW)
        with rights_enforced(s3):
            assert is_whole(store.fetch(OLD))
            for ask in (lambda: store.push(newer), lambda: store.remove(OLD)):
                with pytest.raises(BundleStoreError, match=r"refused: .* push and prune also to write and delete"):
                    ask()
            assert store.versions() == [OLD]

    def test_a_server_that_is_not_there_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(object_store, "ATTEMPTS", 1)

        assert port != int(s3.rpartition(":")[2])
        with pytest.raises(BundleStoreError, match=r"EndpointConnectionError: .* the endpoint \(AWS_ENDPOINT_URL\)"):
            open_store("s3://bucket/prefix", tmp_path / "cache").versions()

    @pytest.mark.usefixtures("s3")
    def test_a_server_that_never_answers_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"ATTEMPTS": 1, "OUTER_ATTEMPTS": 1, "READ_S": 0.1}.items():
            monkeypatch.setattr(object_store, name, value)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(BundleStoreError, match=r"s3://bucket/prefix: ReadTimeoutError"):
                open_store("s3://bucket/prefix", tmp_path / "cache").versions()

    def test_without_credentials_the_message_says_where_they_belong(
        self, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"s3://{make_bucket(s3)}"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

        with pytest.raises(BundleStoreError, match=r"Give credentials in the environment"):
            open_store(url, tmp_path / "cache").versions()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:hunter2@bucket/prefix", "has a password"),
        ("s3://bucket/prefix?token=hunter2", "more than a place"),
        ("simplecache::s3://hunter2", "more than a place"),
        ("http://[hunter2/", "is no URL"),
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(BundleError, match=said) as refused:
        open_store(url)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["file://host/path", "file://", "s3://", "s3:///"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(BundleError, match=f"{url}: "):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "said"), [("gs://bucket", "install gcsfs"), ("nothing://x", "Protocol not known: nothing")]
)
def test_what_is_not_installed_is_named_with_how_to_install_it(url: str, said: str) -> None:
    with pytest.raises(BundleError, match=rf"{url}: .*{said}.*pip install --group s3"):
        open_store(url).versions()


def test_a_password_in_an_error_of_the_storage_is_not_repeated() -> None:
    said = object_store.explain(OSError("no answer from http://user:hunter2@proxy:8080/ for s3://bucket"))

    assert "OSError: no answer from http://proxy:8080/ for s3://bucket" in said


def test_a_process_that_uses_a_folder_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    write_bundle(tmp_path / OLD)
    script = (
        "import sys; from server.release.bundle_store import open_store\n"
        "open_store(sys.argv[1]).fetch(sys.argv[2]); open_store('s3://bucket')\n" + IMPORTED
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), OLD], capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"


def make_bucket(endpoint: str) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    client("s3", endpoint).create_bucket(Bucket=name)
    return name


def client(service: str, endpoint: str) -> Any:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **keys)


def reader_keys(endpoint: str) -> dict[str, str]:
    """Credentials of a new user who may list and read everything."""
    iam, name = client("iam", endpoint), f"reader-{uuid.uuid4().hex}"
    allowed = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@contextmanager
def rights_enforced(endpoint: str) -> Iterator[None]:
    """The server, which lets everybody do everything otherwise, looks at who asks."""
    _unchecked_calls(endpoint, "0")
    try:
        yield
    finally:
        _unchecked_calls(endpoint, "inf")


def _unchecked_calls(endpoint: str, calls: str) -> None:
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", calls.encode(), headers)  # noqa: S310 - our server
    urllib.request.urlopen(request).close()  # noqa: S310 - the same
