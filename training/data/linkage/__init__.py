"""Which records are the same person: blocking, comparisons, Fellegi-Sunter with EM, and clusters."""

from training.data.linkage.link import Linkage, LinkageConfig, link
from training.data.linkage.quality import LinkageQuality, curve, pairwise_quality
from training.data.linkage.threshold import Choice, choose_threshold, estimated_curve

__all__ = [
    "Choice",
    "Linkage",
    "LinkageConfig",
    "LinkageQuality",
    "choose_threshold",
    "curve",
    "estimated_curve",
    "link",
    "pairwise_quality",
]
