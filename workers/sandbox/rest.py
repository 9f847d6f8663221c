"""HTTP: from a request's bytes to a call, and from a reply to a response."""

import re
import time
from urllib.parse import parse_qsl

from aiohttp import web

from workers.sandbox import errors
from workers.sandbox.errors import ApiError
from workers.sandbox.gateway import Gateway, Reply, dumps
from workers.sandbox.requests_log import RequestsLog
from workers.sandbox.routes import TRADE, Call

_SIGNATURE = re.compile(rb"(^|&)signature=([^&]*)")
BODY_MAX = 1 << 16


class Rest:
    """Serves ``/api/v3/*`` from the gateway's routes."""

    def __init__(self, gateway: Gateway, log: RequestsLog) -> None:
        self._gateway = gateway
        self._log = log

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        received_ns, received_monotonic_ns = time.time_ns(), time.monotonic_ns()
        path, _, raw_query = request.raw_path.partition("?")
        query = raw_query.encode("utf-8", "surrogateescape")
        route = self._gateway.routes.get(f"{request.method} {path}")
        if route is None:
            return _response(_failed(errors.unknown_path(request.method, path[:200])))
        body = await request.read() if request.can_read_body else b""
        if route.security == TRADE:
            self._log.add(route.name, query + body, (received_ns, received_monotonic_ns), request)
        try:
            call = Call(
                route=route,
                params=_parameters(query, body),
                ip=request.remote or "",
                key=request.headers.get("X-MBX-APIKEY"),
                signature=_signature(query, body),
                payloads=(_unsigned(query) + _unsigned(body),),
            )
        except ApiError as error:
            return _response(_failed(error))
        reply = await self._gateway.handle(call)
        if reply.lost and request.transport is not None:
            request.transport.abort()
        return _response(reply)


def _parameters(query: bytes, body: bytes) -> dict[str, str]:
    """Both parts' parameters; the query's win. Errors: -1101 for one sent twice in a part."""
    merged: dict[str, str] = {}
    for part in (body, query):
        if not part:
            continue
        pairs = parse_qsl(part.decode("utf-8", "replace"), keep_blank_values=True)
        if len({name for name, _ in pairs}) != len(pairs):
            raise errors.too_many_parameters()
        merged.update(pairs)
    return merged


def _signature(query: bytes, body: bytes) -> str | None:
    found = _SIGNATURE.search(query) or _SIGNATURE.search(body)
    return found.group(2).decode("ascii", "replace") if found else None


def _unsigned(part: bytes) -> bytes:
    """The part as it was signed: without the signature."""
    return _SIGNATURE.sub(b"", part, count=1).removeprefix(b"&") if part else part


def _failed(error: ApiError) -> Reply:
    return Reply(error.status, error.body(), retry_after_ms=error.retry_after_ms)


def _response(reply: Reply) -> web.Response:
    headers = reply.headers
    if reply.retry_after_ms is not None:
        seconds = -(-(reply.retry_after_ms - time.time_ns() // 1_000_000) // 1000)
        headers = {**headers, "Retry-After": str(max(seconds, 1))}
    return web.Response(
        status=reply.status,
        text=dumps(reply.body) if reply.text is None else reply.text,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
