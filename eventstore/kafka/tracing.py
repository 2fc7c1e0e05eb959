"""The trace in which a record is written, as the topic's other consumers read it: W3C Trace Context.

OpenTelemetry is no dependency: a trace is active only where the application has imported it, which is asked first.
"""

from __future__ import annotations

import sys
from typing import Final

TRACEPARENT: Final = "traceparent"
_VERSION: Final = "00"


def traceparent() -> bytes | None:
    """Return the header's value for the span that is active in this task; None outside of any."""
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:
        return None
    context = current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"{_VERSION}-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}".encode()
