"""The plan of a synthetic capture: who is recorded when, what the instants are called, which split they are in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dkp.errors import InputError
from dkp.synthetic.domains import Domain
from dkp.synthetic.rig import RigCamera


@dataclass(frozen=True)
class Recording:
    """All that determines a synthetic capture; sent to the workers.

    Attributes:
        domain: What it looks like.
        subjects: Number of people or animals.
        frames: Instants per subject.
        clip: Instants of a clip, a piece of smooth motion.
        size: Side of the images [px].
        seed: Of all random streams.
        fps: Instants per second within a clip.
        rig: The cameras.
        species: Name of what is recorded, see :data:`dkp.synthetic.species.SPECIES`.
        into: PATH or PATH#SPLIT of a capture that is rendered into, or None.
        subject: Where the posed surfaces of that capture are, whose subject is rendered, or None.
    """

    domain: Domain
    subjects: int
    frames: int
    clip: int
    size: int
    seed: int
    fps: float
    rig: tuple[RigCamera, ...]
    species: str = "human"
    into: str | None = None
    subject: str | None = None

    def stream(self, *key: int) -> np.random.SeedSequence:
        """Return an independent random stream for a key."""
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def clips(self) -> list[tuple[int, int, int]]:
        """(subject, clip, number of instants) of every clip."""
        return [
            (subject, index, min(self.clip, self.frames - start))
            for subject in range(self.subjects)
            for index, start in enumerate(range(0, self.frames, self.clip))
        ]

    def time(self, clip: int, instant: int) -> int:
        """Index in the sequence; clips lie at least one instant apart, so no two are taken for neighbours."""
        spacing = 100 * (self.clip // 100 + 1)
        return clip * spacing + instant

    def frame(self, subject: int, clip: int, instant: int) -> str:
        """Id of an instant."""
        return f"s{subject:02d}_{self.time(clip, instant):06d}"


def make_splits(recording: Recording, shares: Mapping[str, float] | None) -> dict[str, list[str]]:
    """Frame ids of each split.

    Args:
        recording: What is recorded.
        shares: Split name -> share, more than 0; normalised to sum 1.

    Raises:
        InputError: a share that is not positive, or fewer instants than splits.
    """
    shares = shares or {"train": 0.75, "test": 0.25}
    for key, share in shares.items():
        if not share > 0:
            raise InputError(f"the share of split {key!r} is {share}, expected more than 0")
    subjects: dict[int, list[str]] = {}
    clips, instants = [], []
    for subject, clip, count in recording.clips():
        ids = [recording.frame(subject, clip, k) for k in range(count)]
        subjects.setdefault(subject, []).extend(ids)
        clips.append(ids)
        instants += [[frame] for frame in ids]
    for blocks in (list(subjects.values()), clips, instants):
        if len(blocks) < len(shares):
            continue
        bounds = np.cumsum([0.0, *shares.values()]) / sum(shares.values()) * len(blocks)
        edges = np.round(bounds - 1e-9).astype(int)
        for k in range(1, len(edges) - 1):  # every split gets at least one block
            edges[k] = min(max(edges[k], edges[k - 1] + 1), len(blocks) - (len(edges) - 1 - k))
        return {
            key: [frame for block in blocks[edges[k] : edges[k + 1]] for frame in block] for k, key in enumerate(shares)
        }
    raise InputError(
        f"frames is {recording.frames} and subjects {recording.subjects}, expected an instant or more for each of the "
        f"splits {', '.join(shares)}: more --frames or --subjects, or fewer --splits"
    )
