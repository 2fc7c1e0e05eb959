"""A connection to one broker at a time, of which one request at a time makes use.

A broker answers a connection's requests one after the other, and aiokafka's client shares its connections: there, one
that is held back until something comes would hold back what anybody else asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import AIOKafkaConnection, create_conn


class Link:
    """Connects when it is asked something; a request that gets no answer, or is cancelled, ends the connection."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take what aiokafka's connections take."""
        self._settings = settings
        self._at: tuple[str, int] | None = None
        self._connection: AIOKafkaConnection | None = None
        """None while a request has it."""

    async def send(self, host: str, port: int, request: Any) -> Any:
        """Return the answer of the broker at that address.

        Raises:
            KafkaError: It cannot be reached, or did not answer in time.
        """
        if self._at != (host, port):
            self.close()
        connection, self._connection = self._connection, None
        try:
            if connection is None or not connection.connected():
                connection = await create_conn(host, port, **self._settings)
            answer = await connection.send(request)
        except BaseException as exc:
            if connection is not None:
                connection.close()
            if isinstance(exc, OSError | TimeoutError):
                raise kafka.KafkaConnectionError(f"{host}:{port}: {str(exc) or 'no answer in time'}") from exc
            raise
        self._connection, self._at = connection, (host, port)
        return answer

    def close(self) -> None:
        """End the connection, unless a request has it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
