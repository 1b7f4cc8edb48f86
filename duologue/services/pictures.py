"""`Pictures`: the caller's images for an engine, made ready beside the call; the newest frame of their camera."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

import anyio
import msgspec

from ..errors import BadInput, ConfigurationError
from ..frames import UserImage
from ..images import check_image, ready_image
from ..images.fetching import fetch
from ..images.limits import ImageLimits, ImageRules
from ..processors.kernel.node import Node
from ..session.boundary import ask_outside

MAX_WAITING = 10
"""Images that are made ready at the same time. More are refused."""
WAIT_S = 2.0
"""The longest time that an answer waits for images that the caller has shown before it, in seconds."""
FRESH_S = 3.0
"""Seconds for which the newest frame of a camera is current, beyond the time between two frames."""
MAX_FPS = 10.0


class Viewer(Protocol):
    """The part of an engine that its pictures use."""

    image_rules: ImageRules
    camera_fps: float

    @property
    def name(self) -> str: ...
    @property
    def session(self) -> Any: ...
    @property
    def image_limits(self) -> ImageLimits | None: ...
    def seen(self, frame: UserImage) -> None:
        """Take an image that is ready and in the log."""

    def watched(self, frame: UserImage) -> None:
        """Take the next frame of a camera, at most `camera_fps` a second."""


class Pictures:
    """Fetches and converts the images of one engine in tasks, so that neither audio nor words wait for them.

    An image is in the log from its arrival, in progress until it is ready, and a note in its place says why it is not.
    Of the frames of a camera, only the newest one is kept; `show` logs it when the caller asks something.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._waiting: dict[str, UserImage] = {}  # by the id of the item
        self._coming: UserImage | None = None  # the newest frame that is not ready
        self._frame_ready = False  # the frame before it is
        self._news: asyncio.Event | None = None  # for those who wait; few calls have images
        self._room: asyncio.Lock | None = None  # one image at a time is converted: other calls need threads as well
        self._watching = False
        self._newest: tuple[UserImage, float] | None = None  # the newest frame that is ready, and its loop time
        self._shown: tuple[int, str, UserImage] | None = None  # the turn, the item's id and the frame shown last
        self._may_change = False

    def check(self) -> None:
        """Raise ConfigurationError for an impossible rate of the camera."""
        if not 0 < self._viewer.camera_fps <= MAX_FPS:
            raise ConfigurationError(f"camera_fps is {self._viewer.camera_fps!r}: it lies between 0 and {MAX_FPS:g}")

    def take(self, frame: UserImage) -> None:
        """Take an image. Raises BadInput for one that is refused at once: its type or length, or too many wait.

        A model that takes no images refuses all.
        """
        check_image(frame, self._viewer.image_rules)
        if self._viewer.image_limits is None:
            raise BadInput(f"{self._viewer.name} takes no images")
        if frame.source != "picture":
            self._coming = frame
            if not self._watching:
                self._watching = True
                self._start(self._watch())
            return
        if len(self._waiting) >= MAX_WAITING:
            raise BadInput(f"{MAX_WAITING} images are being made ready already")
        conversation = self._viewer.session.conversation
        item = conversation.get(frame.id)
        if item is None or item.status != "in_progress":  # else another engine has logged it
            turn = self._viewer.session.floor.turn + 1
            id = "" if item is not None else frame.id
            data = image_data(msgspec.structs.replace(frame, image=b""))
            item = conversation.add(
                "message", "caller", id=id, turn=turn, name="image", data=data, status="in_progress"
            )
        self._waiting[item.id] = frame
        self._start(self._make_ready(item.id, frame))

    def _start(self, work: Any) -> None:
        viewer = self._viewer
        assert isinstance(viewer, Node)
        viewer.session.start_task(viewer, work)

    async def _make_ready(self, item_id: str, frame: UserImage) -> None:
        viewer, problem = self._viewer, None
        try:
            frame = await self._made_ready(frame)
        except Exception as error:
            problem = error
        if self._waiting.pop(item_id, None) is None:
            return  # another engine has the call
        if problem is not None:
            self._failed(item_id, problem)
        else:
            if viewer.session.conversation.get(item_id) is not None:
                viewer.session.conversation.update(item_id, data=image_data(frame), status="complete")
            viewer.seen(frame)
        self._tell()

    def _failed(self, item_id: str, problem: Exception) -> None:
        """Report an image that does not come, and put a note in its place."""
        conversation = self._viewer.session.conversation
        if (item := conversation.get(item_id)) is not None:
            conversation.remove(item_id)
            conversation.add("note", "caller", turn=item.turn, text=f"(an image did not come: {problem})")
        self._viewer.session.report(problem, self._viewer.name)

    async def _made_ready(self, frame: UserImage) -> UserImage:
        limits = self._viewer.image_limits
        assert limits is not None, "it is refused otherwise"
        self._room = self._room or asyncio.Lock()
        return await ready_image(frame, limits=limits, rules=self._viewer.image_rules, room=self._room, get=_fetched)

    async def ready(self) -> None:
        """Wait until all images are ready, and the first frame of a camera, but not longer than `WAIT_S` seconds."""
        first = self._watching and not self._fresh and not self._frame_ready
        if not (self._waiting or first):
            return
        with anyio.move_on_after(WAIT_S):
            while self._waiting or first:
                news = self._news = self._news or asyncio.Event()
                await news.wait()
                first = first and not self._frame_ready

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    # -- a camera or a screen --------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Make the newest frame ready, again and again while frames come."""
        loop = asyncio.get_running_loop()
        try:
            while (frame := self._coming) is not None:
                self._coming, at = None, loop.time()
                self._frame_ready = False
                try:
                    frame = await self._made_ready(frame)
                except Exception as error:
                    self._viewer.session.report(error, self._viewer.name)
                else:
                    self._newest = frame, at
                    self._viewer.watched(frame)
                finally:
                    self._frame_ready = True
                    self._tell()
                await anyio.sleep(max(0.0, at + 1 / self._viewer.camera_fps - loop.time()))
        finally:
            self._watching = False

    def show(self) -> UserImage | None:
        """Log the newest frame, once in each turn of the caller. Returns it; None if there is none to log."""
        if self._newest is None or not self._fresh:
            return None
        frame = self._newest[0]
        if self._shown is not None and self._shown[2] is frame:
            return None
        session = self._viewer.session
        turn, data = session.floor.turn + 1, image_data(frame)
        if self._shown is not None and self._shown[0] == turn and session.conversation.get(self._shown[1]):
            if not self._may_change:
                return None
            item = session.conversation.update(self._shown[1], data=data, at=session.now())
        else:
            place = self._before_the_words(turn)
            item = session.conversation.add("message", "caller", turn=turn, name="image", data=data, **place)
        self._shown, self._may_change = (turn, item.id, frame), False
        return frame

    def _before_the_words(self, turn: int) -> dict[str, Any]:
        """Return the place in the log before the words of this turn that it has already: the image belongs to them."""
        item = next(reversed(self._viewer.session.conversation), None)
        if item is None or item.turn != turn or item.role != "caller" or not item.text or item.kind != "message":
            return {}
        return {"before": item.id, "at": item.at}

    @property
    def _fresh(self) -> bool:
        """True if the newest frame that is ready shows what the camera sees now."""
        if self._newest is None:
            return False
        return asyncio.get_running_loop().time() - self._newest[1] <= FRESH_S + 1 / self._viewer.camera_fps

    def caller_goes_on(self) -> None:
        """Note that the caller's turn goes on: a newer frame may take the place of the one that was shown in it."""
        self._may_change = True

    # -- a change of engines ---------------------------------------------------------------------------------------

    def release(self) -> tuple[UserImage, ...]:
        """Return the images that are not ready, and the newest frame, for another engine."""
        waiting = tuple(msgspec.structs.replace(frame, id=item_id) for item_id, frame in self._waiting.items())
        newest = self._coming or (self._newest[0] if self._newest is not None else None)
        self._waiting.clear()
        self._tell()
        self._coming = self._newest = None
        return waiting if newest is None else (*waiting, newest)

    def adopt(self, frames: Iterable[UserImage]) -> None:
        """Take over the images of another engine."""
        for frame in frames:
            try:
                self.take(frame)
            except BadInput as error:
                if frame.source == "picture":
                    self._failed(frame.id, error)


async def _fetched(url: str, rules: ImageRules) -> tuple[bytes, str]:
    data, mime = await ask_outside("tool", "image", partial(fetch, url, rules), url)
    return data, mime


def image_data(frame: UserImage) -> dict[str, Any]:
    """Return the data of an image's item in the log."""
    names = ("mime", "url", "image", "source", "name", "width", "height")
    return {name: getattr(frame, name) for name in names}
