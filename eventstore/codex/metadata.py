"""A thread's metadata: a fold over its items and over the commands about it.

Not a second write that could disagree with the history. The rules are the contract's §4; `summary` holds the
values and their law, `observation` what items say, `patches` what commands say, `projection` what callers see.
"""

from eventstore.codex.observation import observe
from eventstore.codex.patches import apply_patch, patch_fields
from eventstore.codex.projection import stored_thread
from eventstore.codex.summary import (
    EMPTY,
    NO_FACTS,
    Facts,
    Summary,
    apply_archived,
    apply_facts,
    apply_unarchived,
)

__all__ = [
    "EMPTY",
    "NO_FACTS",
    "Facts",
    "Summary",
    "apply_archived",
    "apply_facts",
    "apply_patch",
    "apply_unarchived",
    "observe",
    "patch_fields",
    "stored_thread",
]
