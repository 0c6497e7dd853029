"""A TCP proxy in front of Kafka's brokers that breaks the network between them and their clients.

Each broker has a second listener, for the clients behind the proxy, and advertises the proxy's port
there. `ports` and `broker_options` set that up. The tests themselves use the broker's first port,
which is never disturbed.

A request of Kafka's protocol begins with its length, its API key, the version of that API and a
correlation id. A broker answers the requests of a connection one after the other, in order, and so
does the proxy: it reads a request, lets a fault handle it, and reads the next. The fault that does
no harm is `pass_on`. The proxy expects an answer to each request, so no client may use `acks=0`.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from local.broker import free_port

FROZEN = 60.0  # seconds until a half-open connection is reset
PIECE = 2**14  # bytes that a slow link carries at a time


class Api(IntEnum):
    """The API keys of the requests of a transaction, in their order."""

    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    PRODUCE = 0
    END_TXN = 26


class Cut(Exception):
    """Close the client's connection and the broker's."""


@dataclass
class Exchange:
    """A request that has arrived from a client, and its two connections."""

    proxy: "Proxy"
    broker_port: int
    request: bytes
    to_client: asyncio.StreamWriter
    from_broker: asyncio.StreamReader
    to_broker: asyncio.StreamWriter

    @property
    def api(self) -> int:
        return int.from_bytes(self.request[4:6], "big")

    async def forward(self) -> bytes:
        """Send the request to the broker; returns the answer."""
        await _send(self.to_broker, self.request)
        return await _read(self.from_broker)

    async def reply(self, answer: bytes) -> None:
        await _send(self.to_client, answer)

    async def deliver(self) -> None:
        """Send the request to the broker on a new connection; drops the answer."""
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.broker_port)
        try:
            await _send(to_broker, self.request)
            self.proxy.delivered.append(await _read(from_broker))
        finally:
            to_broker.transport.abort()


Fault = Callable[[Exchange], Coroutine[Any, Any, None]]
"""Handles a request; raises Cut to close its connections."""

Step = tuple[Api, Fault]
"""The request to wait for, and its fault."""


async def pass_on(exchange: Exchange) -> None:
    await exchange.reply(await exchange.forward())


async def cut_before(exchange: Exchange) -> None:
    """The request does not reach the broker."""
    raise Cut


async def cut_inside(exchange: Exchange) -> None:
    """Half of the request reaches the broker."""
    await _send(exchange.to_broker, exchange.request[: len(exchange.request) // 2])
    raise Cut


async def lose_answer(exchange: Exchange) -> None:
    """The broker executes the request, but its answer does not reach the client."""
    await exchange.forward()
    raise Cut


async def repeat(exchange: Exchange) -> None:
    """The request reaches the broker a second time, on another connection."""
    await pass_on(exchange)
    await exchange.deliver()


async def freeze(exchange: Exchange) -> None:
    """Half-open: the connection stays open, but nothing passes."""
    await asyncio.sleep(FROZEN)
    raise Cut


async def keep(exchange: Exchange) -> None:
    """The request is kept for `deliver_kept`, and its connection is cut."""
    exchange.proxy.kept.append(exchange)
    raise Cut


async def deliver_kept(exchange: Exchange) -> None:
    """The kept requests reach the broker after this one, and before the client has its answer."""
    answer = await exchange.forward()
    kept, exchange.proxy.kept = exchange.proxy.kept, []
    for late_exchange in kept:
        await late_exchange.deliver()
    await exchange.reply(answer)


def delay(max_seconds: float) -> Fault:
    """The request and its answer each take up to `max_seconds`."""

    async def pass_late(exchange: Exchange) -> None:
        chance = exchange.proxy.chance
        await asyncio.sleep(chance.uniform(0, max_seconds))
        answer = await exchange.forward()
        await asyncio.sleep(chance.uniform(0, max_seconds))
        await exchange.reply(answer)

    return pass_late


def slow_link(bytes_per_second: int) -> Fault:
    """The request and its answer pass at this speed."""

    async def trickle(to: asyncio.StreamWriter, frame: bytes) -> None:
        for start in range(0, len(frame), PIECE):
            piece = frame[start : start + PIECE]
            await asyncio.sleep(len(piece) / bytes_per_second)
            await _send(to, piece)

    async def pass_slowly(exchange: Exchange) -> None:
        await trickle(exchange.to_broker, exchange.request)
        await trickle(exchange.to_client, await _read(exchange.from_broker))

    return pass_slowly


def late(api: Api, transactions: int = 1, during: Api = Api.PRODUCE) -> list[Step]:
    """Keep a request of a transaction, cut its connection, and let the client's retry pass. Deliver
    the request after `transactions` transactions have ended, during the next one.
    """
    ends = [(Api.END_TXN, pass_on)] * transactions
    return [(api, keep), *ends, (during, deliver_kept)]


@dataclass
class Disturbance:
    """A fault that hits a share of all requests (0 to 1) until a time of the monotonic clock."""

    fault: Fault
    share: float
    until: float


class Proxy:
    """Listens on ports of localhost, each in front of a broker's port, in a thread of its own."""

    def __init__(self, brokers: dict[int, int], seed: int = 0) -> None:
        """`brokers` has the broker's port for each port of the proxy."""
        self.chance = random.Random(seed)
        self.kept: list[Exchange] = []
        self.delivered: list[bytes] = []
        """The broker's answers to the requests that reached it late or a second time."""
        self.harmed = 0
        """How many requests a disturbance has hit."""
        self.steps: list[Step] = []
        self.text = b""
        self.disturbances: list[Disturbance] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        for port, broker_port in brokers.items():
            listening = asyncio.start_server(self._server(broker_port), "127.0.0.1", port)
            asyncio.run_coroutine_threadsafe(listening, self.loop).result()

    def plan(self, steps: Sequence[Step], text: str) -> None:
        """Wait for the request of each step in turn, among the requests that contain this text.

        All requests of a transaction contain its transactional id. Replaces the previous plan.
        """
        self.text, self.steps, self.kept = text.encode(), list(steps), []

    def disturb(self, fault: Fault, share: float, seconds: float) -> None:
        """Let the fault hit this share of all requests (0 to 1) for `seconds`."""
        self.disturbances.append(Disturbance(fault, share, time.monotonic() + seconds))

    def heal(self) -> None:
        """End all faults. Every connection is cut, so that none stays half-open."""
        self.steps, self.disturbances = [], []
        self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in self.tasks])

    def _server(
        self, broker_port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            task = self.loop.create_task(self._serve(broker_port, from_client, to_client))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        return accept

    async def _serve(
        self, broker_port: int, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Handle the requests of a connection until it is cut or its client or broker closes it."""
        writers = [to_client]
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", broker_port)
            writers.append(to_broker)
            while True:
                request = await _read(from_client)
                exchange = Exchange(self, broker_port, request, to_client, from_broker, to_broker)
                await self._fault(exchange)(exchange)
        except (Cut, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in writers:
                writer.transport.abort()

    def _fault(self, exchange: Exchange) -> Fault:
        if self.steps and self.steps[0][0] == exchange.api and self.text in exchange.request:
            return self.steps.pop(0)[1]
        for disturbance in self.disturbances:
            is_over = time.monotonic() > disturbance.until
            if not is_over and self.chance.random() < disturbance.share:
                self.harmed += 1
                return disturbance.fault
        return pass_on


async def _read(reader: asyncio.StreamReader) -> bytes:
    """A whole request or answer, with the four bytes of its length."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "big"))


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def ports(nodes: int) -> dict[int, int]:
    """Free ports for `Proxy`: each of its ports, with the port of the broker behind it.

    Their last digit is the node's number, so that one --override serves all nodes.
    """
    for_proxy, for_brokers = _free_tens(nodes), _free_tens(nodes)
    while for_proxy == for_brokers:
        for_brokers = _free_tens(nodes)
    return {10 * for_proxy + n: 10 * for_brokers + n for n in range(1, nodes + 1)}


def _free_tens(nodes: int) -> int:
    """The digits before the last of a free port for each node."""
    while True:
        tens = min(free_port() // 10, 6552)  # the last port is 65535
        wanted = range(10 * tens + 1, 10 * tens + nodes + 1)
        if all(free_port(port) == port for port in wanted):
            return tens


def broker_options(ports: dict[int, int]) -> list[str]:
    """The options with which `local.broker` starts nodes behind a proxy on these ports."""
    (for_proxy, for_broker), *_ = ((a // 10, b // 10) for a, b in ports.items())
    properties = {
        "listeners": "CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},"
        f"PROXIED://127.0.0.1:{for_broker}{{number}}",
        "advertised.listeners": "CLIENTS://localhost:{port},"
        f"PROXIED://localhost:{for_proxy}{{number}}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "PROXIED:PLAINTEXT",
    }
    return [word for name in properties for word in ("--override", f"{name}={properties[name]}")]
