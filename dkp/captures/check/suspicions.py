"""Everything in a capture that looks wrong though it can be used: what explains disagreement, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from dkp.captures.capture import Capture
from dkp.captures.check.bones import bone_sentences
from dkp.captures.check.duplicates import duplicate_sentences, same_points
from dkp.captures.check.evidence import consecutive, gather
from dkp.captures.check.fitting import FITTED
from dkp.captures.check.hypotheses import Looks
from dkp.captures.check.images import (
    BY_DETECTOR,
    BY_MASKS,
    Detector,
    Images,
    detector_witness,
    image_findings,
    mask_witness,
)
from dkp.captures.check.judge import Finding, judge, late
from dkp.captures.check.lens_folds import fold_sentences
from dkp.captures.check.seen import followed_points, seen_mask_sentences, seen_points
from dkp.captures.check.silhouettes import mask_sentences, outline_sentences, outlines
from dkp.captures.manifest import Instant

_KNOWN = 0.5  # share of the joints that a detector must see where they are before its foreground says anything of masks


def suspicions(
    capture: Capture, chosen: Sequence[Instant], usable: Sequence[Instant], detector: Detector | None = None
) -> tuple[list[Finding], list[str], dict[str, float]]:
    """Return what explains that views disagree, and one sentence for everything else that looks wrong.

    Where joints agree among themselves, but for the calibration of single cameras, they are compared with the images.
    The third value is camera -> share of its joints that a detector sees in its images.

    Args:
        capture: the capture.
        chosen: instants of which images, masks and labels are looked at.
        usable: instants whose files can be read, of which joints are looked at.
        detector: of the capture's surface; None looks at no image.
    """
    names, surface = list(capture.cameras), capture.surface
    sentences = duplicate_sentences(capture, chosen)
    masks = mask_sentences(capture, chosen)
    findings, seen = list[Finding](), dict[str, float]()
    looks = gather(capture, chosen, usable)
    if looks is not None:
        sentences += same_points(looks.pixels, names, looks.kind)
        if not sentences:  # two copies of a camera fit nothing
            findings = judge(looks, names)
        if looks.names and not findings:
            sentences += bone_sentences(looks, surface.joints, surface.name, capture.unit)
        if looks.names and all(
            finding.kind in FITTED for finding in findings
        ):  # joints are those of the images, or not
            seen, others = _by_images(capture, consecutive(usable), looks, detector)
            findings += others
    elif not masks and not sentences:
        hulls = outlines(capture, chosen)
        findings = [] if hulls is None else judge(hulls, names)
        if detector is not None and chosen and not findings:
            findings = judge(seen_points(capture, chosen, detector, surface), names)
            found = None if findings else late(followed_points(capture, usable, detector, surface), names)
            findings += [] if found is None else [found[0]]
    if not findings and not masks and not sentences and (hulls := outlines(capture, chosen)) is not None:
        known = detector is not None and min(seen.values(), default=1.0) > _KNOWN
        masks = seen_mask_sentences(capture, chosen, detector) if detector is not None and known else []
        masks = masks or outline_sentences(hulls, names)
    views = [view for instant in chosen for view in instant.views]
    return findings, [*sentences, *masks, *fold_sentences(capture, views)], seen


def _by_images(
    capture: Capture, instants: Sequence[Instant], looks: Looks, detector: Detector | None
) -> tuple[dict[str, float], list[Finding]]:
    """Compare joints with images: by a detector, and where that finds nothing by the masks."""
    seen, findings = dict[str, float](), list[Finding]()
    if detector is not None:
        witness = detector_witness(capture, detector, looks.names)
        seen, findings = image_findings(Images(capture, instants, looks, witness), BY_DETECTOR)
    if not findings and any(view.mask for instant in instants for view in instant.views):
        _, findings = image_findings(Images(capture, instants, looks, mask_witness(capture)), BY_MASKS)
    return seen, findings
