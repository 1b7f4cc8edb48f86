"""`GET /metrics`: the metrics of a server's calls, for Prometheus. The authentication is that of the calls."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..telemetry import Telemetry
from .calls import Calls
from .gate import take_token
from .refusals import ClientRefused


def routes(calls: Calls, telemetry: Telemetry) -> list[BaseRoute]:
    """Return the endpoint. The metrics tell how many calls there are and how they end, and nothing of their content."""

    async def metrics(request: Request) -> Response:
        try:
            await calls.authorize(request)
        except ClientRefused as refused:
            return refused.response()
        finally:
            take_token(request.scope)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(telemetry.metrics_text(), headers=headers, media_type=telemetry.metrics_type)

    return [Route("/metrics", metrics, methods=["GET"])]
