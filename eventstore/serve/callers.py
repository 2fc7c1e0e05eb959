"""Who calls: named by its token or by its certificate, and by what it does in the events of what it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventstore.actor import act_as, acting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstore.serve.calls import Context

_NAMING: Final = ("x509_subject", "x509_common_name", "x509_subject_alternative_name")
"""What a certificate calls its holder, best first, in gRPC's words."""


def act_for_caller(context: Context) -> None:
    """Let the call's task act for whom the client's certificate names, unless its token did so already."""
    if acting() is None and (name := _subject(context.auth_context())) is not None:
        act_as(name)


def _subject(shown: Mapping[str, Iterable[bytes]]) -> str | None:
    for kind in _NAMING:
        for name in shown.get(kind, ()):
            if text := name.decode(errors="replace"):
                return text
    return None
