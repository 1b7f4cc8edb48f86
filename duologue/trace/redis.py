"""`RedisStore`: keeps traces in a Redis server."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from ..errors import ConfigurationError, MissingExtra, error_text
from .records import BadTrace
from .store import Store

WAIT_S = 3.0
"""Seconds for a connection, and for each part of a request and its answer."""
PREFIX = "duologue:trace:"
_CHUNK = 64
"""Lines that are read at once."""

# ARGV: the call, the number of its lines before, the lines. Repeating it, if its outcome was not known, adds nothing.
_APPEND = """
local count, before, added = redis.call('LLEN', KEYS[1]), tonumber(ARGV[2]), #ARGV - 2
if count == before + added and redis.call('LINDEX', KEYS[1], -1) == ARGV[#ARGV] then return count end
if count ~= before then return redis.error_reply('ERR the trace has ' .. count .. ' lines, not ' .. before) end
redis.call('SADD', KEYS[2], ARGV[1])
for at = 3, #ARGV, 1000 do redis.call('RPUSH', KEYS[1], unpack(ARGV, at, math.min(at + 999, #ARGV))) end
return before + added
"""
# ARGV: the holder, and the milliseconds, 0 to let go.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) else redis.call('DEL', KEYS[1]) end
return ARGV[1]
"""


class RedisStore(Store):
    """Keeps traces in a Redis server: `RedisStore("redis://localhost:6379/0")`. Each part of an answer has 3 s.

    The server's own options say what it keeps if it is stopped. Raises ConfigurationError for a malformed address, and
    MissingExtra without the extra `redis`.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise MissingExtra("Redis", "redis", str(error)) from error
        self._errors = (redis.RedisError, OSError)
        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, retry=Retry(NoBackoff(), 0)
            )
        except (ValueError, TypeError):  # their messages may have the password
            raise ConfigurationError(
                "the address of a Redis server is malformed: redis://user:password@host:6379/0"
            ) from None
        place = self._client.connection_pool.connection_kwargs
        where = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"
        self._where = f"{where}/{place.get('db') or 0}"
        self._append = self._client.register_script(_APPEND)
        self._hold = self._client.register_script(_HOLD)
        self._counts: dict[str, int] = {}  # lines of the traces that are being written

    def __repr__(self) -> str:
        return f"RedisStore({self._where!r})"

    @property
    def key(self) -> Hashable:
        return "redis", self._where

    def append(self, call: str, lines: Sequence[bytes]) -> None:
        keys = (f"{PREFIX}{call}", f"{PREFIX}calls")
        self._counts[call] = int(self._append(keys=keys, args=(call, self._counts.get(call, 0), *lines)))

    def finish(self, call: str) -> None:
        self._counts.pop(call, None)
        if not self._counts:
            self._client.close()

    def hold(self, call: str, holder: str, seconds: float) -> str:
        found: bytes = self._hold(keys=(f"{PREFIX}hold:{call}",), args=(holder, int(seconds * 1000)))
        return found.decode()

    def read(self, call: str) -> Iterator[bytes]:
        at, chunk = 0, 1  # the first line alone: `calls` wants no more
        while True:
            try:
                lines: list[bytes] = self._client.lrange(f"{PREFIX}{call}", at, at + chunk - 1)
            except self._errors as error:
                raise BadTrace(f"{self!r} cannot be read: {error_text(error)}") from error
            if not (lines or at):
                raise BadTrace(f"{self!r} has no call {call!r}")
            yield from lines
            if len(lines) < chunk:
                return
            at, chunk = at + len(lines), _CHUNK

    def names(self) -> list[str]:
        try:
            return sorted((name.decode() for name in self._client.smembers(f"{PREFIX}calls")), reverse=True)
        except self._errors as error:
            raise BadTrace(f"{self!r} cannot be read: {error_text(error)}") from error

    def delete(self, call: str) -> None:
        with self._client.pipeline() as steps:
            steps.delete(f"{PREFIX}{call}", f"{PREFIX}hold:{call}").srem(f"{PREFIX}calls", call).execute()
