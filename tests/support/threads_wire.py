"""The store's own service under test: a bare client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import Message

from eventstore.serve.asked import SERVICE
from eventstore.serve.protos import eventstore_threads_pb2 as pb

UNARY: dict[str, tuple[type[Message], type[Message]]] = {
    "Describe": (pb.DescribeRequest, pb.Description),
    "EndCaller": (pb.EndCallerRequest, pb.Done),
    "CreateThread": (pb.CreateThreadRequest, pb.Done),
    "ResumeThread": (pb.ResumeThreadRequest, pb.Done),
    "AppendItems": (pb.AppendItemsRequest, pb.Receipt),
    "PersistThread": (pb.LiveThreadRequest, pb.Done),
    "FlushThread": (pb.LiveThreadRequest, pb.Done),
    "ShutdownThread": (pb.LiveThreadRequest, pb.Done),
    "DiscardThread": (pb.LiveThreadRequest, pb.Done),
    "ReadThread": (pb.ReadThreadRequest, pb.Thread),
    "ListThreads": (pb.ListThreadsRequest, pb.ThreadPage),
    "FindThreads": (pb.FindThreadsRequest, pb.Found),
    "UpdateThreadMetadata": (pb.UpdateThreadMetadataRequest, pb.Thread),
    "ArchiveThread": (pb.ChangeThreadRequest, pb.Done),
    "UnarchiveThread": (pb.ChangeThreadRequest, pb.Thread),
    "RetryThread": (pb.RetryThreadRequest, pb.Thread),
    "ReadItems": (pb.ReadItemsRequest, pb.ItemPage),
    "DeleteThread": (pb.ChangeThreadRequest, pb.Done),
}
STREAMING: dict[str, tuple[type[Message], type[Message]]] = {
    "ReadHistory": (pb.ReadHistoryRequest, pb.Items),
    "FollowEvents": (pb.FollowEventsRequest, pb.Event),
}


class ThreadsWire:
    """Calls a server over one connection."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: str, request: Message) -> Any:
        _, reply = UNARY[method]
        called = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return await called(request)

    async def stream(self, method: str, request: Message) -> AsyncIterator[Any]:
        _, reply = STREAMING[method]
        called = self._channel.unary_stream(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        async for each in called(request):
            yield each

    async def history(self, thread_id: str, **more: Any) -> list[pb.Item]:
        request = pb.ReadHistoryRequest(thread_id=thread_id, **more)
        return [item async for batch in self.stream("ReadHistory", request) for item in batch.items]
