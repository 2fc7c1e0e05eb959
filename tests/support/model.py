"""A model for agents under test: the Responses API on loopback, with answers that follow from what is asked.

A message that says `run COMMAND` is answered by a call of the shell tool that the request offers, `spawn MESSAGE` by
one of the tool that begins another agent, everything else by `heard: MESSAGE`. What a tool gave back is answered by
`the command said: OUTPUT`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHELLS = {"exec_command": "cmd", "shell_command": "command"}
"""Tools that run a command, and what they call it."""


class Model:
    """What was asked of the model, and where it is."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"


@contextmanager
def model() -> Iterator[Model]:
    """Serve in the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    server.model = Model(server)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.model  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.model.requests.append(request)  # type: ignore[attr-defined]
        number = len(self.server.model.requests)  # type: ignore[attr-defined]
        answer = {"id": f"resp_{number}"}
        usage = {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        }
        events = [
            {"type": "response.created", "response": answer},
            {"type": "response.output_item.done", "item": _item(request, number)},
            {"type": "response.completed", "response": {**answer, "usage": usage}},
        ]
        body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


def _item(request: dict[str, Any], number: int) -> dict[str, Any]:
    last = request["input"][-1]
    if last["type"] == "function_call_output":
        return _message(f"the command said: {_text(last['output'])}", number)
    said = _text(last.get("content", ""))
    if said.startswith("run "):
        tool = next(tool["name"] for tool in request["tools"] if tool.get("name") in SHELLS)
        return _call(tool, {SHELLS[tool]: said.removeprefix("run ")}, number)
    if said.startswith("spawn "):
        return _call("spawn_agent", {"message": said.removeprefix("spawn ")}, number)
    return _message(f"heard: {said}", number)


def _call(tool: str, arguments: dict[str, str], number: int) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": tool,
        "arguments": json.dumps(arguments),
    }


def _message(text: str, number: int) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content)
