"""Where keys are given, a bundle that none of them signed is refused before anything of it is read."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from core.manifest import BundleError, find_damage, read_manifest
from offline import bundle_folder
from server.loader import load_bundle, load_sound_rungs
from server.signature import KeyFileError, PrivateKey, PublicKeys, SignatureError, write_key_pair
from tests.server.bundle_folder import flip, write_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.bundle import Bundle

LOADS = pytest.mark.parametrize("loads", [load_bundle, load_sound_rungs])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundles" / "v1")


@pytest.fixture
def mine(tmp_path: Path) -> tuple[PrivateKey, Path]:
    """A key that signs, and the file of the one that checks."""
    public = write_key_pair(tmp_path / "mine")
    return PrivateKey(tmp_path / "mine"), public


@LOADS
def test_a_signed_bundle_is_loaded(folder: Path, mine: tuple[PrivateKey, Path], loads: Callable[..., Bundle]) -> None:
    assert mine[0].sign(folder) == folder / "manifest.sig"
    assert loads(folder, PublicKeys([mine[1]])).version == "toy"


@LOADS
def test_without_keys_it_does_not_matter_who_signed(
    folder: Path, mine: tuple[PrivateKey, Path], loads: Callable[..., Bundle]
) -> None:
    mine[0].sign(folder)
    (folder / "manifest.sig").write_bytes(b"scrawl")
    assert loads(folder).version == "toy"
    assert find_damage(folder, read_manifest(folder)) == {}


@LOADS
@pytest.mark.parametrize("signature", [None, b"", b"\0" * 64, b"\0" * 1000])
def test_a_bundle_without_a_signature_is_refused_by_the_name_of_the_file(
    folder: Path, mine: tuple[PrivateKey, Path], loads: Callable[..., Bundle], signature: bytes | None
) -> None:
    if signature is not None:
        (folder / "manifest.sig").write_bytes(signature)
    with pytest.raises(SignatureError) as refused:
        loads(folder, PublicKeys([mine[1]]))
    assert str(folder / "manifest.sig") in str(refused.value)
    assert refused.value.cause == "signature"


@LOADS
def test_a_bundle_that_somebody_else_signed_is_refused_and_both_keys_take_both(
    folder: Path, tmp_path: Path, mine: tuple[PrivateKey, Path], loads: Callable[..., Bundle]
) -> None:
    theirs = write_key_pair(tmp_path / "theirs")
    PrivateKey(tmp_path / "theirs").sign(folder)
    with pytest.raises(SignatureError, match=f"by any of the keys {mine[1]}"):
        loads(folder, PublicKeys([mine[1]]))
    both = PublicKeys([mine[1], theirs])
    assert loads(folder, both).version == "toy"
    mine[0].sign(folder)
    assert loads(folder, both).version == "toy"


@LOADS
def test_a_manifest_that_was_changed_after_signing_is_not_even_parsed(
    folder: Path, mine: tuple[PrivateKey, Path], loads: Callable[..., Bundle]
) -> None:
    mine[0].sign(folder)
    (folder / "manifest.json").write_text("{no JSON")
    with pytest.raises(SignatureError):
        loads(folder, PublicKeys([mine[1]]))


def test_a_file_that_was_changed_after_signing_is_damage(folder: Path, mine: tuple[PrivateKey, Path]) -> None:
    mine[0].sign(folder)
    flip(folder / "cf" / "trend.npy")
    with pytest.raises(BundleError, match=r"trend\.npy: its SHA-256"):
        load_bundle(folder, PublicKeys([mine[1]]))


def test_what_is_damaged_is_not_signed(folder: Path, mine: tuple[PrivateKey, Path]) -> None:
    flip(folder / "cf" / "trend.npy")
    with pytest.raises(BundleError, match=r"trend\.npy: its SHA-256"):
        mine[0].sign(folder)
    assert not (folder / "manifest.sig").exists()


def test_signing_leaves_nothing_else_behind(folder: Path, mine: tuple[PrivateKey, Path]) -> None:
    mine[0].sign(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["v1"]


def test_a_bundle_that_is_sealed_again_is_not_signed_any_more(folder: Path, mine: tuple[PrivateKey, Path]) -> None:
    mine[0].sign(folder)
    bundle_folder.seal(folder, read_manifest(folder))
    assert not (folder / "manifest.sig").exists()


def test_a_manifest_cannot_list_its_own_signature(folder: Path) -> None:
    raw = json.loads((folder / "manifest.json").read_text())
    raw["files"]["manifest.sig"] = {"bytes": 64, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"'manifest\.sig', which is no file of this bundle"):
        read_manifest(folder)


def test_a_private_key_is_for_its_owner_alone_and_keys_are_not_overwritten(tmp_path: Path) -> None:
    public = write_key_pair(tmp_path / "key")
    private = (tmp_path / "key").read_bytes()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in public.read_bytes()
    with pytest.raises(KeyFileError, match=r"key\.pub: is there already"):
        write_key_pair(tmp_path / "key")
    public.unlink()
    with pytest.raises(KeyFileError, match="key: is there already"):
        write_key_pair(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == private
    assert not public.exists()


def test_a_key_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"nowhere/key\.pub: cannot be written"):
        write_key_pair(tmp_path / "nowhere" / "key")


def test_a_file_that_is_no_such_key_is_an_error_that_names_it_and_not_what_is_in_it(tmp_path: Path) -> None:
    public = write_key_pair(tmp_path / "key")
    other = generate_private_key(SECP256R1())
    (tmp_path / "other").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "other.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "locked").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        )
    )
    (tmp_path / "text").write_text("hunter2")
    for name in ("key", "text", "other.pub", "nowhere"):
        with pytest.raises(KeyFileError, match=f"{name}: ") as refused:
            PublicKeys([public, tmp_path / name])
        assert "hunter2" not in str(refused.value)
    for name in ("key.pub", "text", "other", "locked", "nowhere"):
        with pytest.raises(KeyFileError, match=f"{name}: ") as refused:
            PrivateKey(tmp_path / name)
        assert "hunter2" not in str(refused.value)


def test_no_key_at_all_is_not_taken_for_any_signature_will_do() -> None:
    with pytest.raises(KeyFileError, match="no public key"):
        PublicKeys([])
