"""Logs of what runs for long: lines for people on a terminal, JSON anywhere else, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import Processor


def begin_logging(*, debug: bool = False) -> None:
    """Send what this program and its libraries say from now on to standard error; `debug` for each call as well."""
    import structlog

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            # First, so that what is not shown costs nothing.
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    for_people = sys.stderr.isatty()
    last: Processor = structlog.processors.JSONRenderer()
    if for_people:
        # Its default shows the variables of every call: passwords, tokens and what was said in threads.
        last = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if for_people else [structlog.processors.format_exc_info]),
                last,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_a_server)
    if debug:
        logging.getLogger("eventstore").setLevel(logging.DEBUG)


def _is_of_a_server(record: logging.LogRecord) -> bool:
    """Say no to what gRPC has to say, with a traceback, of a client that went before it had all of an answer."""
    return not str(record.msg).startswith("ExecuteBatchError")
