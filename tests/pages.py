"""Many open pages of dashboard.py at once, as far as its server can tell."""

import asyncio
import re
import threading
import urllib.request
import uuid
from collections import Counter
from types import TracebackType

import socketio

TIMEOUT = 60  # seconds; the machine may be slow


class OpenPages:
    """Pages that are open while the block runs.

    Each loads the page, opens its web socket as NiceGUI's script does in a browser, and counts and
    confirms the messages that the server sends. It draws nothing.
    """

    def __init__(self, url: str, number: int) -> None:
        self.url, self.number = url, number
        self.messages: Counter[int] = Counter()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.sockets: list[socketio.AsyncClient] = []

    def __enter__(self) -> "OpenPages":
        self.thread.start()
        for number in range(self.number):
            asyncio.run_coroutine_threadsafe(self._open(number), self.loop).result(TIMEOUT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for socket in self.sockets:
            asyncio.run_coroutine_threadsafe(socket.disconnect(), self.loop).result(TIMEOUT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT)

    async def _open(self, number: int) -> None:
        page = await asyncio.to_thread(self._load)
        found = re.search(r"'client_id': '([^']+)'", page)
        assert found, page[:500]
        client, tab = found[1], str(uuid.uuid4())
        socket = socketio.AsyncClient(reconnection=False, request_timeout=TIMEOUT)

        async def count(event: str, *arguments: object) -> None:
            self.messages[number] += 1
            confirmed = {"client_id": client, "next_message_id": self.messages[number]}
            await socket.emit("ack", confirmed)

        socket.on("*", count)
        query = (
            f"client_id={client}&tab_id={tab}&document_id={tab}"
            "&next_message_id=0&implicit_handshake=true"
        )
        await socket.connect(
            f"{self.url}?{query}",
            socketio_path="/_nicegui_ws/socket.io",
            transports=["websocket"],
            wait_timeout=TIMEOUT,
        )
        self.sockets.append(socket)

    def _load(self) -> str:
        with urllib.request.urlopen(self.url + "/en", timeout=TIMEOUT) as response:
            return str(response.read().decode())
