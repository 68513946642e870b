"""Record linkage: blocking, comparisons, the Fellegi-Sunter model with EM, and clusters."""

from shopsight.training.data.identity.linkage.link import METHODS, SAID, Linkage, LinkageConfig, Said, link
from shopsight.training.data.identity.linkage.quality import LinkageQuality, curve, pairwise_quality
from shopsight.training.data.identity.linkage.threshold import Choice, choose_threshold, estimated_curve

__all__ = [
    "METHODS",
    "SAID",
    "Choice",
    "Linkage",
    "LinkageConfig",
    "LinkageQuality",
    "Said",
    "choose_threshold",
    "curve",
    "estimated_curve",
    "link",
    "pairwise_quality",
]
