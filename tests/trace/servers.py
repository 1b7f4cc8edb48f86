"""A real Redis server for tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class RedisServer:
    """`redis-server` on a free port of loopback, with its files in a folder. Needs the password "secret"."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers. It keeps what it had on disk when it stopped."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._folder, "requirepass": "secret"}
        files = {"appendonly": "yes", "appendfsync": "no", "save": ""}
        command = [part for name, value in (options | files).items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen(["redis-server", *command], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > end:
                self.stop()
                raise TimeoutError("redis-server does not start")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:  # not yet, or it reads its files
                return False

    def stop(self) -> None:
        """Stop the server in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a server while the context is open."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()
