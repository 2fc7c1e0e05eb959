"""The code of the protos is what the pinned compiler makes of them."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from grpc_tools import protoc

from eventstore.serve import protos
from eventstore.serve.codex_service import SERVICE
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from tests.support.wire import REPLIES, REQUESTS

HERE = Path(protos.__file__).parent


def test_compiling_again_gives_the_same_code(tmp_path: Path) -> None:
    sources = sorted(HERE.glob("*.proto"))
    included = importlib.resources.files("grpc_tools") / "_proto"
    words = ["", f"-I{HERE}", f"-I{included}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *map(str, sources)]

    assert sources
    assert 0 == protoc.main(words)
    made = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text("utf-8") for path in HERE.glob("*_pb2.py*")}, "run compose/protos"


def test_the_service_has_the_thirteen_methods_of_codex() -> None:
    service = pb.DESCRIPTOR.services_by_name["ThreadStore"]

    assert SERVICE == service.full_name
    assert {method.name: method.input_type.name for method in service.methods} == {
        name: request.DESCRIPTOR.name for name, request in REQUESTS.items()
    }
    assert {method.name: method.output_type.name for method in service.methods} == {
        name: reply.DESCRIPTOR.name for name, reply in REPLIES.items()
    }
