"""Where corpora come from; one contract test-suite runs over every source.

A source is slim to import: what it needs from outside is loaded when it works. `making.make_corpus` writes what a source yields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tune_accent.base.progress import Progress
    from tune_accent.data.manifest import Utterance


@dataclass(frozen=True)
class Rejected:
    """Something that the source has and the corpus leaves out, and why."""

    utt_id: str
    reason: str


class Source(Protocol):
    """Speech that can be made into a corpus folder."""

    @property
    def record(self) -> Mapping[str, Any]:
        """Everything that decides the content of the corpus, as JSON: sources with equal records make equal corpora."""
        ...

    def fill(self, root: Path, progress: Progress) -> tuple[Sequence[Utterance], Sequence[Rejected]]:
        """Write the audio below `root/audio/`, each file whole or absent, over whatever is there.

        Returns:
            The rows of the manifest and what was left out.

        Raises:
            UserError: the source cannot be read or made.
        """
        ...
