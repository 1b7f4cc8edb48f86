"""A server that fetches nothing for its clients: at each door an image's address is refused, its bytes are taken."""

from __future__ import annotations

import base64
from typing import Any

import anyio

from duologue import Session
from duologue.testing.websocket import calling, serving
from duologue.transports.client import ClientTransport
from tests.images.samples import PIXEL
from tests.web.realtime.calls import Mocks, call
from tests.web.test_floods import rtvi
from tests.web.test_sockets import Server, voice

ADDRESS = "https://images.example/a.png"
BASE64 = base64.b64encode(PIXEL).decode()
REFUSED = "this server takes images as bytes, not by an address"


def picture(source: dict[str, str]) -> str:
    return rtvi("send-file", file={"format": "image/png", "source": source}, options={"run_immediately": False})


def images(session: Session) -> list[Any]:
    return [item for item in session.conversation if item.name == "image"]


async def test_an_rtvi_client_gives_images_as_bytes() -> None:
    server = Server()
    app = voice(server, image_addresses=False)
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.connection.send(rtvi("client-ready", version="2.2.0"))
        await client.until("bot-ready")
        await client.connection.send(picture({"type": "url", "url": ADDRESS}))
        assert REFUSED in (await client.until("error-response"))["data"]["error"]
        await client.connection.send(picture({"type": "bytes", "bytes": BASE64}))
        with anyio.fail_after(60):
            while not images(server.sessions[0]):
                await anyio.sleep(0.02)
    assert [item.data["image"] for item in images(server.sessions[0])] == [PIXEL]


async def test_the_application_lets_one_client_give_addresses() -> None:
    class Trusting(Server):
        def __call__(self, transport: ClientTransport) -> Session:
            transport.image_addresses = True
            return super().__call__(transport)

    app = voice(Trusting(), image_addresses=False)
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.connection.send(rtvi("client-ready", version="2.2.0"))
        await client.until("bot-ready")
        await client.connection.send(picture({"type": "url", "url": "http://127.0.0.1/a.png"}))
        assert "it is not a public address" in (await client.until("error"))["data"]["error"]


async def test_an_openai_client_gives_images_as_data_urls_in_the_conversation_and_out_of_band() -> None:
    mocks = Mocks(["A cat."])
    async with call(mocks, image_addresses=False) as client:
        for url, code in ((ADDRESS, "invalid_value"), (f"data:image/png;base64,{BASE64}", "")):
            shown = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}
            aside = {"conversation": "none", "output_modalities": ["text"], "input": [shown]}
            for event in ({"item": shown}, {"response": aside}):
                kind = "item" if "item" in event else "response"
                await client.send("conversation.item.create" if kind == "item" else "response.create", **event)
                if code:
                    refused = await client.refused()
                    assert (refused["code"], refused["message"]) == (code, REFUSED)
                else:
                    await client.until("conversation.item.done" if kind == "item" else "response.done")
    assert [bool(message.image) for request in mocks.llms[0].requests for message in request.messages] == [True]
