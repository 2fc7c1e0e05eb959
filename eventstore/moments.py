"""Times as datetimes, as texts, and as integers since the epoch.

Knows no clock. A time beyond the calendar is shown as the calendar's end, never as an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST_MILLIS = 253_402_300_799_999
"""The last millisecond of the year 9999, after which no calendar shows a time."""
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FILE_NAME_FORM = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)", re.ASCII)
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def micros_of(at: datetime) -> int:
    """Return the microseconds from the epoch to the moment."""
    return (at - _EPOCH) // _MICROSECOND


_FIRST_MICROS = micros_of(datetime.min.replace(tzinfo=UTC))
_LAST_MICROS = micros_of(datetime.max.replace(tzinfo=UTC))


def in_calendar(micros: int) -> int:
    """Bound microseconds since the epoch by the calendar: a clock may say anything."""
    if _FIRST_MICROS <= micros <= _LAST_MICROS:  # as every clock but a broken one says
        return micros
    return min(max(micros, _FIRST_MICROS), _LAST_MICROS)


def moment(micros: int) -> datetime:
    """Return the UTC datetime that lies `micros` after the epoch, or the calendar's nearer end."""
    return _EPOCH + in_calendar(micros) * _MICROSECOND


def micros(text: str) -> int | None:
    """Return the microseconds since the epoch of an RFC 3339 text, bounded by the calendar; None if it is none."""
    if _RFC_3339.fullmatch(text) is None:
        return None
    try:
        # A zone can carry the first and the last day beyond the calendar.
        return in_calendar(micros_of(datetime.fromisoformat(text.upper())))
    except (ValueError, OverflowError):
        return None


def stamp_micros(text: str) -> int | None:
    """Return the microseconds since the epoch of a session_meta's `timestamp` or a cursor (contract §4.1, §5.1).

    It is RFC 3339, or `YYYY-MM-DDThh-mm-ss` as in file names, which every reader takes for UTC; else None.
    """
    form = _FILE_NAME_FORM.fullmatch(text)
    return micros(text if form is None else "{}T{}:{}:{}Z".format(*form.groups()))


def rfc_3339(at: datetime, timespec: str = "auto") -> str:
    """Return the moment as RFC 3339 in UTC, with a Z; `timespec` as `datetime.isoformat` takes it.

    Raises:
        OverflowError: In UTC it lies beyond the calendar.
    """
    return at.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


def spelled(millis: int) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.mmmZ`, the form of every timestamp Codex writes."""
    return rfc_3339(moment(millis * 1000), "milliseconds")


def is_canonical(text: str) -> bool:
    """Whether the text has exactly the form which `spelled` writes."""
    return _CANONICAL.fullmatch(text) is not None
