"""Everything in a capture that looks wrong though it can be used: what explains disagreement, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from dkp.captures.capture import Capture
from dkp.captures.check.bones import bone_sentences
from dkp.captures.check.duplicates import duplicate_sentences, same_points
from dkp.captures.check.evidence import gather
from dkp.captures.check.judge import Finding, judge
from dkp.captures.check.lens_folds import fold_sentences
from dkp.captures.check.silhouettes import mask_sentences, outlines
from dkp.captures.manifest import Instant


def suspicions(
    capture: Capture, chosen: Sequence[Instant], usable: Sequence[Instant]
) -> tuple[list[Finding], list[str]]:
    """Return what explains that views disagree, and one sentence for everything else that looks wrong.

    Args:
        capture: the capture.
        chosen: instants of which images, masks and labels are looked at.
        usable: instants whose files can be read, of which joints are looked at.
    """
    names = list(capture.cameras)
    sentences = duplicate_sentences(capture, chosen)
    masks = mask_sentences(capture, chosen)
    findings: list[Finding] = []
    looks = gather(capture, chosen, usable)
    if looks is not None:
        sentences += same_points(looks.pixels, names, looks.kind)
        if not sentences:  # two copies of a camera fit nothing
            findings = judge(looks, names)
        if looks.names and not findings:
            surface = capture.surface
            sentences += bone_sentences(looks, surface.joints, surface.name, capture.unit)
    elif not masks and not sentences and (hulls := outlines(capture, chosen)) is not None:
        findings = judge(hulls, names)
    views = [view for instant in chosen for view in instant.views]
    return findings, [*sentences, *masks, *fold_sentences(capture, views)]
