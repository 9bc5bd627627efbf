"""Who made a bundle: an Ed25519 signature (RFC 8032) over the bytes of its manifest, which has the digest of every file.

The signature lies beside the manifest, 64 bytes as they are. Keys are PEM files: PKCS #8, without a password, for who
signs; SubjectPublicKeyInfo for who checks.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from core.manifest import MANIFEST_NAME, SIGNATURE_NAME, BundleError, read_manifest, verify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from core.manifest import Manifest

_BYTES = 64
_OWNER_ONLY = 0o600


class SignatureError(BundleError):
    """A bundle is not signed by anybody who is trusted."""

    cause = "signature"


class KeyFileError(SignatureError):
    """A key cannot be read or written; the message names the file and says what to do."""


class PublicKeys:
    """The keys of those who may sign bundles; one of them has to have done it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read them.

        Raises:
            KeyFileError: a file cannot be read or holds something else; or there is none.
        """
        self._keys = {path: _public_key(path) for path in paths}
        if not self._keys:
            raise KeyFileError("no public key: name at least one file")

    def read_manifest(self, folder: Path) -> Manifest:
        """The manifest of a bundle, of which nothing is looked at before its signature is known to be good.

        Raises:
            SignatureError: the bundle is not signed, or by nobody who is trusted.
            BundleError: the manifest cannot be used.
        """
        return read_manifest(folder, partial(self.check, folder))

    def check(self, folder: Path, manifest: bytes) -> None:
        """Hold the signature in a bundle's folder against the bytes of its manifest.

        Raises:
            SignatureError: there is none, or none of these keys made it for this manifest.
        """
        path = folder / SIGNATURE_NAME
        try:
            with path.open("rb") as file:
                signature = file.read(_BYTES + 1)
        except FileNotFoundError:
            raise SignatureError(
                f"{path}: missing, and only signed bundles are taken here. Sign it with `terrace bundle sign`"
            ) from None
        except OSError as error:
            raise SignatureError(f"{path}: not readable ({error.strerror}). Copy the bundle again") from error
        for key in self._keys.values():
            try:
                key.verify(signature, manifest)
            except InvalidSignature:
                continue
            return
        names = ", ".join(str(path) for path in self._keys)
        raise SignatureError(
            f"{path}: not a signature of this {MANIFEST_NAME} by any of the keys {names}. Copy the bundle again, or sign "
            "it if you made it"
        )


def trusted(paths: Iterable[Path]) -> PublicKeys | None:
    """The keys in files; None where no file is named, and bundles need no signature.

    Raises:
        KeyFileError: a file cannot be read or holds something else.
    """
    named = list(paths)
    return PublicKeys(named) if named else None


class PrivateKey:
    """The key of somebody who signs bundles."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            KeyFileError: the file cannot be read or holds something else.
        """
        try:
            key = load_pem_private_key(_content(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                f"{path}: not a private key in PEM without a password ({error}). Make one with `terrace bundle keygen`"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{path}: a key of another kind than Ed25519. Make one with `terrace bundle keygen`")
        self._key = key

    def sign(self, folder: Path) -> Path:
        """Sign a bundle whose files are those of its manifest; returns the path of the signature.

        It is there as a whole or not at all, also for a process that reads the folder meanwhile.

        Raises:
            BundleError: the bundle is damaged or unfinished: nothing is signed.
        """
        signed: list[bytes] = []
        verify(folder, read_manifest(folder, signed.append))
        path = folder / SIGNATURE_NAME
        # Beside the folder: a file in it that no manifest lists would be damage for whoever opens the bundle just now.
        draft = folder.absolute().parent / f".{folder.absolute().name}.{SIGNATURE_NAME}"
        with draft.open("wb") as file:
            file.write(self._key.sign(signed[0]))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        return path


def write_key_pair(path: Path) -> Path:
    """Make a key: the private half in ``path``, for its owner's eyes only, the public half in ``<path>.pub``.

    Returns:
        Path of the public half.

    Raises:
        KeyFileError: one of the files is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    try:
        _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), _OWNER_ONLY)
    except KeyFileError:
        public.unlink()
        raise
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise KeyFileError(f"{path}: is there already, and keys are not overwritten. Choose another name") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror})") from None


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path}: not a public key in PEM ({error}). `terrace bundle keygen FILE` writes one to FILE.pub"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: a key of another kind than Ed25519. Make one with `terrace bundle keygen`")
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror})") from None
