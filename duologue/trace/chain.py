"""`HashChain`: makes records whose hashes cover all records before them."""

from __future__ import annotations

from hashlib import sha256
from os import urandom

import msgspec

from .records import NOTHING, Record

_encode = msgspec.json.Encoder().encode
START = "0" * 64
"""The hash before the first record."""


def digest_of(salt: str, part: bytes) -> str:
    """Return the digest of a part. The salt keeps it from being guessed once the part is redacted."""
    return sha256(salt.encode() + part).hexdigest()


def hash_of(record: Record, before: str) -> str:
    """Return the hash of a record that follows the record with the hash `before`."""
    covered = (
        before,
        record.seq,
        record.call,
        record.at,
        record.kind,
        record.source,
        record.digest,
        record.words_digest,
    )
    return sha256(_encode(covered)).hexdigest()


class HashChain:
    """Makes the records of one call. `count` is the number of the last one, `hash` its hash."""

    def __init__(self, call: str, count: int = 0, hash: str = START) -> None:
        self.call = call
        self.count = count
        self.hash = hash

    def next(self, at: float, kind: str, source: str, data: bytes, words: bytes) -> Record:
        """Return the next record, with these parts. b"" for a part that it does not have."""
        self.count += 1
        salt = urandom(16).hex() if data else ""
        words_salt = urandom(16).hex() if words else ""
        digest = digest_of(salt, data) if data else ""
        words_digest = digest_of(words_salt, words) if words else ""
        covered = (self.hash, self.count, self.call, at, kind, source, digest, words_digest)
        self.hash = sha256(_encode(covered)).hexdigest()
        return Record(
            seq=self.count,
            call=self.call,
            at=at,
            kind=kind,
            source=source,
            data=msgspec.Raw(data) if data else NOTHING,
            salt=salt,
            digest=digest,
            words=msgspec.Raw(words) if words else NOTHING,
            words_salt=words_salt,
            words_digest=words_digest,
            hash=self.hash,
        )
