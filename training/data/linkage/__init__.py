"""Which records are the same person: blocking, comparisons, Fellegi-Sunter with EM, and clusters."""

from training.data.linkage.link import Linkage, LinkageConfig, link
from training.data.linkage.quality import LinkageQuality, curve, pairwise_quality

__all__ = ["Linkage", "LinkageConfig", "LinkageQuality", "curve", "link", "pairwise_quality"]
