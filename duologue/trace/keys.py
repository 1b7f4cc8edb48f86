"""Keys that sign traces: ed25519, in files. They need the extra `trace`."""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import BadInput, ConfigurationError, check_installed
from .chain import HashChain
from .store import open_file

MAX_KEY_FILE = 16_384
"""Bytes of a file with a key."""


class BadKey(BadInput):
    """A file has no key that can be used. The message names the file and the reason."""


def sealed_text(call: str, count: int, hash: str) -> bytes:
    """Return the bytes that a seal signs: the call, the number of records, and the hash of the last of them."""
    return f"duologue trace seal 1\n{call}\n{count}\n{hash}\n".encode()


def fingerprint(public: bytes) -> str:
    """Return the name of a public key: the first half of its SHA-256."""
    return sha256(public).hexdigest()[:32]


class Signer:
    """Seals a trace with a private key, which is read from a file in PEM that only its owner can read.

    Raises BadKey, and MissingExtra without `cryptography`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_installed("trace", "cryptography")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        path = Path(path)
        data = _read_key(path, private=True)
        try:
            key = load_pem_private_key(data, None)
        except Exception as error:
            raise BadKey(f"{path} has no private key in PEM without a password: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKey(f"{path} has a key of another kind than ed25519")
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        """The 32 bytes of the public key."""

    def seal(self, chain: HashChain) -> dict[str, Any]:
        """Return the data of a `seal` of all records of a chain."""
        signature = self._key.sign(sealed_text(chain.call, chain.count, chain.hash))
        return {
            "count": chain.count,
            "key": b64encode(self.public).decode(),
            "signature": b64encode(signature).decode(),
        }


def is_sealed(data: Any, call: str, count: int, hash: str) -> bytes | None:
    """Return the public key of a seal that is valid for these records; None if it is not valid.

    Raises MissingExtra without `cryptography`.
    """
    check_installed("trace", "cryptography")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = b64decode(data["key"], validate=True)
        signature = b64decode(data["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, sealed_text(call, count, hash))
    except (InvalidSignature, ValueError, TypeError, KeyError):
        return None
    return public if data.get("count") == count else None


def make_key(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Make a key. Returns the files of the private key, which only the user may read, and of the public key (`.pub`).

    Raises ConfigurationError if one of the files exists or cannot be written, MissingExtra without `cryptography`.
    """
    check_installed("trace", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key, private = Ed25519PrivateKey.generate(), Path(path)
    public = private.with_name(private.name + ".pub")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for file, text, mode in ((private, pem, 0o600), (public, public_pem, 0o644)):
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(text)
        except OSError as error:
            raise ConfigurationError(f"the key cannot be written: {file}: {error.strerror}") from error
    return private, public


def public_key(path: str | os.PathLike[str]) -> bytes:
    """Return the 32 bytes of the public key in a file in PEM, of a public or a private key. Raises BadKey."""
    check_installed("trace", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    path = Path(path)
    data = _read_key(path, private=False)
    if b"PRIVATE KEY" in data:
        return Signer(path).public
    try:
        key = load_pem_public_key(data)
    except Exception as error:
        raise BadKey(f"{path} has no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey(f"{path} has a key of another kind than ed25519")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _read_key(path: Path, *, private: bool) -> bytes:
    try:
        with open_file(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise BadKey(f"{path} is not a file")
            if private and os.name == "posix" and mode & 0o077:
                raise BadKey(f"{path} can be read by others: chmod 600 {path}")
            return file.read(MAX_KEY_FILE)
    except OSError as error:
        raise BadKey(f"{path} cannot be read: {error.strerror}") from error
