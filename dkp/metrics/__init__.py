"""Metrics over dense keypoint fields: torchmetrics classes, each over a functional core."""

from dkp.metrics.consistency import (
    MultiviewConsistency as MultiviewConsistency,
    mutual_matches as mutual_matches,
    trivial_coordinate as trivial_coordinate,
)
from dkp.metrics.geodesic import (
    GeodesicError as GeodesicError,
    area_under_recall as area_under_recall,
    geodesic_errors as geodesic_errors,
    recall_curve as recall_curve,
)
from dkp.metrics.joints import JointError as JointError
from dkp.metrics.reconstruction import (
    KeypointError3D as KeypointError3D,
    ReprojectionResidual as ReprojectionResidual,
    SurfaceError3D as SurfaceError3D,
    procrustes as procrustes,
)
from dkp.metrics.sampling import choose_pixels as choose_pixels
from dkp.metrics.segmentation import (
    ForegroundIoU as ForegroundIoU,
    PartAccuracy as PartAccuracy,
    intersection_union as intersection_union,
)
from dkp.metrics.similarity import (
    PointSimilarity as PointSimilarity,
    average_precision as average_precision,
    geodesic_point_similarity as geodesic_point_similarity,
)
