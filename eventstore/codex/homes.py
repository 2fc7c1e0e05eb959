"""Codex homes on disk: which rollout files there are, and what their home says of them (contract §1.6, §4.3).

Reads folders and the names index, never a rollout file: a file's thread is known only to whoever reads its lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from eventstore.codex.imported import Told
from eventstore.codex.names import NameEntry, read_names
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId

ACTIVE_FOLDER, ARCHIVED_FOLDER, NAMES_INDEX = "sessions", "archived_sessions", "session_index.jsonl"
_COMPRESSED = ".zst"
_BEGINNING, _ENDINGS = "rollout-", (".jsonl", f".jsonl{_COMPRESSED}")
_WHAT_TO_GIVE = "give a Codex home (such as ~/.codex), a folder or a rollout file"


@dataclass(frozen=True, slots=True)
class Home:
    """A folder that Codex keeps threads in."""

    path: Path
    names: Mapping[ThreadId, NameEntry]


@dataclass(frozen=True, slots=True)
class RolloutFile:
    """A file to import, or a folder or link that leads nowhere; whether it is a rollout shows when it is read."""

    path: Path
    size: int
    """Bytes, when it was found."""
    home: Home | None = None
    """None for a file outside of any home: nothing is known of its name and archived state then."""
    archived: bool = False

    @property
    def is_compressed(self) -> bool:
        return self.path.name.endswith(_COMPRESSED)

    def told(self, thread_id: ThreadId) -> Told:
        """Return what the file's home says of the thread in it."""
        return Told() if self.home is None else Told(self.home.names.get(thread_id), self.archived)


def find_rollouts(paths: Iterable[Path]) -> list[RolloutFile]:
    """Return the rollout files that homes, other folders (searched through) and files lead to, each once.

    The order is that of their names, which begin with a time. Of the same name, which is one thread's in several
    places, those of the path that was given first come first, and of one path those that are not archived: that is
    where Codex looks first. A folder with `sessions` or `archived_sessions` in it is a home; any other file belongs to
    the home whose layout it lies in, if it does. Links are followed, into each folder once.

    Raises:
        InvalidRequest: A path does not exist, cannot be read, is no ordinary file, or leads to no rollout.
    """
    homes: dict[Path, Home] = {}
    found: dict[Path, RolloutFile] = {}
    for path in paths:
        try:
            _refuse_stream(path.expanduser())
            files = {file.path: file for file in _files_at(path.expanduser().resolve(), homes)}
        except RuntimeError as exc:  # an unknown ~user, or links that lead in a circle
            raise InvalidRequest(f"{path} leads nowhere: {exc}; {_WHAT_TO_GIVE}") from exc
        except OSError as exc:
            raise InvalidRequest(f"{exc.filename or path} cannot be read: {exc.strerror}; check permissions") from exc
        if not files:
            raise InvalidRequest(f"{path} holds no rollouts; {_WHAT_TO_GIVE}")
        for file in sorted(files.values(), key=lambda file: (file.archived, file.path)):
            found.setdefault(file.path, file)
    return sorted(found.values(), key=lambda file: file.path.name)


def _refuse_stream(path: Path) -> None:
    """Refuse pipes, terminals and the like before they are opened, which may wait for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidRequest(f"{path} is no ordinary file, and an import may read one twice; write it to a file first")


def _files_at(path: Path, homes: dict[Path, Home]) -> Iterator[RolloutFile]:
    if not path.exists():
        raise InvalidRequest(f"{path} does not exist; {_WHAT_TO_GIVE}")
    if not path.is_dir():
        yield _rollout(path, _home_around(path), homes)
        return
    folders = [folder for name in (ACTIVE_FOLDER, ARCHIVED_FOLDER) if (folder := path / name).is_dir()]
    for file in _rollouts_in(folders or [path], is_home=bool(folders)):
        yield _rollout(file, path if folders else _home_around(file), homes)


def _rollouts_in(folders: Sequence[Path], *, is_home: bool) -> Iterator[Path]:
    """Yield the rollouts below the folders; then what cannot be looked into, as files that cannot be read.

    Whoever imports them is told so: what is in them would otherwise be missed without a word. Of links that lead
    nowhere, any may have led to rollouts in a home, elsewhere those that are named so.
    """
    closed: list[Path] = []
    for inside, names in _walked(folders, closed):
        for name in names:
            file = Path(inside, name)
            is_named_so = name.startswith(_BEGINNING) and name.endswith(_ENDINGS)
            if not is_named_so and not (is_home and file.is_symlink()):
                continue
            try:
                mode = file.stat().st_mode
            except OSError:
                if os.path.lexists(file):
                    closed.append(file)
                continue
            # Codex compresses old rollouts beside the plain file, which is the truth where it is there.
            is_spare = name.endswith(_COMPRESSED) and file.with_suffix("").exists()
            if is_named_so and S_ISREG(mode) and not is_spare:
                yield file
    yield from closed


def _walked(folders: Sequence[Path], closed: list[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder and the names of the files in it; add those that cannot be looked into to `closed`.

    What links lead to comes last and only if it was not met on its own way, so that no link leads in a circle.
    """
    tops, seen = deque(folders), set[str]()
    while tops:
        for inside, below, names in os.walk(tops.popleft(), onerror=lambda exc: closed.append(Path(exc.filename))):
            real = os.path.realpath(inside)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            tops.extend(link for name in below if (link := Path(inside, name)).is_symlink())
            yield inside, names


def _rollout(path: Path, home: Path | None, homes: dict[Path, Home]) -> RolloutFile:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # it is gone, or it never could be read: who reads it is told
    if home is None:
        return RolloutFile(path, size)
    if home not in homes:
        homes[home] = Home(home, _names_of(home))
    return RolloutFile(path, size, homes[home], archived=path.is_relative_to(home / ARCHIVED_FOLDER))


def _home_around(path: Path) -> Path | None:
    """Return the home in whose layout the file lies: `archived_sessions/FILE` or `sessions/YYYY/MM/DD/FILE`."""
    if path.parent.name == ARCHIVED_FOLDER:
        return path.parent.parent
    above = path.parents
    return above[4] if len(above) > 4 and above[3].name == ACTIVE_FOLDER else None


def _names_of(home: Path) -> dict[ThreadId, NameEntry]:
    try:
        with (home / NAMES_INDEX).open("rb") as lines:
            return read_names(lines)
    except FileNotFoundError:
        return {}
