"""`PlayoutBase`: the contract between the end of a pipeline and the playout of the agent's audio."""

from __future__ import annotations

from collections.abc import Awaitable

from ...frames import BotAudio, ResponseEnded, ResponseStarted


class PlayoutBase:
    """Takes the responses at the end of a pipeline, and accounts for them in the session's ledger.

    `fence` and `stop` fix what was heard before they return.
    """

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait to be written."""
        raise NotImplementedError

    @property
    def paused(self) -> bool:
        """True while the speech is on hold."""
        raise NotImplementedError

    def begin(self, frame: ResponseStarted) -> None:
        """A response begins; its audio will come."""
        raise NotImplementedError

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. Returns None, or what to await if there is no room for it yet."""
        raise NotImplementedError

    def end(self, frame: ResponseEnded) -> None:
        """All of a response has come."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until all that was begun has been heard, or dropped."""
        raise NotImplementedError

    def hold(self, owners: tuple[str, ...]) -> None:
        """The first hold begins: silence at once, and nothing is lost."""
        raise NotImplementedError

    def resume(self, owners: tuple[str, ...]) -> None:
        """The last hold has ended: go on where the speech stopped."""
        raise NotImplementedError

    def fence(self) -> None:
        """An interruption: drop all that is stale, here and at the far end, and fix what was heard."""
        raise NotImplementedError

    def stop(self) -> None:
        """The far end is gone, or the call ends: fix what was heard, drop the rest, and write nothing any more."""
        raise NotImplementedError
