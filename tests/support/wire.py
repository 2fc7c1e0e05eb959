"""The Codex wire under test: a bare client that opens a connection for each call, and messages for its requests."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from eventstore.ids import new_thread_id
from eventstore.serve.codex_service import SERVICE
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.statuses import ERROR_NAME

REPLIES: dict[str, type[Message]] = {
    "CreateThread": pb.Empty,
    "ResumeThread": pb.Empty,
    "AppendItems": pb.Empty,
    "PersistThread": pb.Empty,
    "FlushThread": pb.Empty,
    "ShutdownThread": pb.Empty,
    "DiscardThread": pb.Empty,
    "LoadHistory": pb.StoredThreadHistory,
    "ReadThread": pb.StoredThreadResponse,
    "ListThreads": pb.ListThreadsResponse,
    "UpdateThreadMetadata": pb.StoredThreadResponse,
    "ArchiveThread": pb.Empty,
    "UnarchiveThread": pb.StoredThreadResponse,
}
REQUESTS: dict[str, type[Message]] = {
    "CreateThread": pb.CreateThreadRequest,
    "ResumeThread": pb.ResumeThreadRequest,
    "AppendItems": pb.AppendThreadItemsRequest,
    "PersistThread": pb.ThreadIdRequest,
    "FlushThread": pb.ThreadIdRequest,
    "ShutdownThread": pb.ThreadIdRequest,
    "DiscardThread": pb.ThreadIdRequest,
    "LoadHistory": pb.LoadThreadHistoryRequest,
    "ReadThread": pb.ReadThreadRequest,
    "ListThreads": pb.ListThreadsRequest,
    "UpdateThreadMetadata": pb.UpdateThreadMetadataRequest,
    "ArchiveThread": pb.ArchiveThreadRequest,
    "UnarchiveThread": pb.ArchiveThreadRequest,
}
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # What Codex takes.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
)

Reply = TypeVar("Reply", bound=Message)


class CodexWire:
    """Calls a server as Codex does: a connection for each call, no deadline of its own, nothing repeated."""

    def __init__(
        self, address: str, *, token: str | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.address = address
        self._credentials = credentials
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    async def raw(self, method: str, request: bytes, *, streams: bool = False) -> bytes:
        """Call `SERVICE/METHOD` with these bytes and return the reply's; all of them if it streams."""
        async with self.channel() as channel:
            if streams:
                called = channel.unary_stream(f"/{method}")(request, metadata=self._metadata)
                return b"".join([reply async for reply in called])
            reply: bytes = await channel.unary_unary(f"/{method}")(request, metadata=self._metadata)
            return reply

    def channel(self) -> grpc.aio.Channel:
        """Return a connection of its own."""
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return grpc.aio.secure_channel(self.address, self._credentials, options=_OPTIONS)

    async def call(self, method: str, request: Message) -> Any:
        """Call a method and return its reply.

        Raises:
            grpc.aio.AioRpcError: The call failed.
        """
        return REPLIES[method].FromString(await self.raw(f"{SERVICE}/{method}", request.SerializeToString()))

    async def create(self, thread_id: str, **more: Any) -> None:
        source = pb.SessionSource(kind=pb.SESSION_SOURCE_KIND_CLI)
        metadata = json.dumps({"cwd": "/work", "model_provider": "loopback", "memory_mode": "enabled"})
        await self.call(
            "CreateThread",
            pb.CreateThreadRequest(thread_id=thread_id, source=source, metadata_json=metadata, **more),
        )

    async def append(self, thread_id: str, *texts: str) -> None:
        """Append what a user says."""
        items = [item("event_msg", {"type": "user_message", "message": text}) for text in texts]
        await self.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread_id, items_json=items))

    async def say(self, method: str, thread_id: str) -> None:
        """Call a method that takes a thread's id only."""
        await self.call(method, REQUESTS[method](thread_id=thread_id))

    async def history(self, thread_id: str) -> list[Any]:
        reply = await self.call("LoadHistory", pb.LoadThreadHistoryRequest(thread_id=thread_id, include_archived=True))
        return [json.loads(text) for text in reply.items_json]

    async def said(self, thread_id: str) -> list[str]:
        """Return what was said in the thread."""
        payloads = [each["payload"] for each in await self.history(thread_id) if each["type"] == "event_msg"]
        return [payload["message"] for payload in payloads if payload["type"] in ("user_message", "agent_message")]


async def a_stored_thread(codex: CodexWire, *texts: str) -> str:
    """Make a thread that is live with the server and stored, whose user has said these texts."""
    thread = new_thread_id()
    await codex.create(thread)
    await codex.append(thread, *texts)
    await codex.say("FlushThread", thread)
    return thread


def item(kind: str, payload: Any) -> str:
    return json.dumps({"type": kind, "payload": payload}, separators=(",", ":"))


def told(error: grpc.aio.AioRpcError) -> str | None:
    """Return the name of the store's error, as the server told it."""
    return next((str(value) for key, value in error.trailing_metadata() or () if key == ERROR_NAME), None)
