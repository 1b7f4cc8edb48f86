"""`crossing`: an HTTP client whose requests cross the boundary of the session that makes them.

A session that is recorded has the answers noted, piece by piece; in a replay they come from the file, and the SDK above
the client does not notice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ...session.boundary import AnswerHead, Boundary, as_code_of, inside


def crossing(package: ModuleType, client: type[Any] | None = None) -> type[Any]:
    """Return a type like `client`, by default the `AsyncClient` of `package` (httpx, httpx2), that crosses."""

    class Crossing(client or package.AsyncClient):  # type: ignore[misc]
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            boundary = inside.get()
            if boundary is None:
                return await super().send(request, stream=stream, **options)
            sends = super().send

            async def sent() -> AnswerHead:
                return _RealHead(await sends(request, stream=True, **options))

            name = f"{request.method} {request.url.path}"
            with _own_errors(package, request):
                head = await boundary.head(name, sent)
            body = _body_of(package, boundary, head, request)
            response = package.Response(head.status, headers=head.headers, stream=body, request=request)
            if not stream:
                await response.aread()
            return response

        async def aclose(self) -> None:
            with as_code_of(None):
                await super().aclose()

    return Crossing


class _RealHead:
    """An answer as it comes."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: list[tuple[str, str]] = list(_items(response.headers))

    async def body(self) -> AsyncIterator[bytes]:
        async for piece in self._response.stream:
            yield piece

    async def close(self) -> None:
        await self._response.aclose()


def _items(headers: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = headers.multi_items()
    return found


def _body_of(package: ModuleType, boundary: Boundary, head: AnswerHead, request: Any) -> Any:
    class Body(package.AsyncByteStream):  # type: ignore[misc,name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            with _own_errors(package, request):
                async for piece in head.body():
                    yield piece

        async def aclose(self) -> None:
            await head.close()

    return Body()


@contextmanager
def _own_errors(package: ModuleType, request: Any) -> Iterator[None]:
    """Give recorded errors the types of the package, by which the SDK knows them."""
    try:
        yield
    except Exception as error:
        own: Any = getattr(package, type(error).__name__, None)
        if not isinstance(own, type) or isinstance(error, own) or not issubclass(own, Exception):
            raise
        try:
            raised: Exception = own(str(error), request=request)  # type: ignore[call-arg]
        except TypeError:
            raised = own(str(error))
        raise raised from error
