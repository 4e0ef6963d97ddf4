"""Which requests the page answers: those that it makes itself in the browser, and no others."""

import json
import re

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

LARGEST = 100_000  # bytes of a request; a drawing of the page has less than 20,000
REQUESTS = re.compile(
    r"GET (/|/assets/.+|/static/.+|/theme\.css|/favicon\.ico)|POST /gradio_api/run/predict"
    r"|HEAD /|GET /gradio_api/startup-events"  # Gradio asks these itself when it starts
)


class Guard:
    """ASGI middleware: Gradio would answer many other requests, some with the user's Hugging Face account."""

    def __init__(self, app, proxied: bool) -> None:
        self.app = app
        self.proxied = proxied  # by a proxy that changes the host name

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        try:
            messages = [{"type": "http.request", "body": await self._body(scope, receive)}]
        except (HTTPException, ClientDisconnect, ValueError, RecursionError) as error:
            status = getattr(error, "status_code", 400)
            return await PlainTextResponse(f"refused ({status})", status)(scope, receive, send)

        async def checked() -> dict:
            return messages.pop() if messages else await receive()

        await self.app({**scope, "query_string": b""}, checked, send)

    async def _body(self, scope, receive) -> bytes:
        """The body that Gradio receives: the drawing and the number without other fields, or nothing."""
        if not REQUESTS.fullmatch(f"{scope.get('method')} {scope['path']}"):
            raise HTTPException(404)
        request = Request(scope, receive)
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if origin and origin.partition("://")[2] != host and not self.proxied:
            raise HTTPException(403)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                raise HTTPException(413)
        if request.method != "POST":
            return b""
        match json.loads(body):
            case {"data": [str(drawing), int(number)]} if 0 <= number <= 9:
                return json.dumps({"data": [drawing, number]}).encode()
        raise HTTPException(400)
