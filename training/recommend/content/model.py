"""Predict item factors from content: a ridge regression on features, and a small CNN on pictures.

This is an attribute-to-feature mapping (Gantner et al., 2010, "Learning Attribute-to-Feature Mappings for
Cold-Start Recommendations"): it is fitted to items with interactions and predicts the factors of items
without any. The regression is solved exactly; the CNN is then fitted to its residuals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import sparse
from torch import Tensor, nn

from shopsight.serving.contract import read_json, write_json
from shopsight.serving.routing.arrays import load_safetensors
from shopsight.training.artifacts.plain_settings import take_plain_values

Float32 = NDArray[np.float32]
FORMAT_VERSION = 1
_STATE, _WEIGHTS = "content.json", "content.safetensors"


@dataclass(frozen=True)
class ContentConfig:
    """num_buckets: of hashed tokens. regularization: ridge penalty, relative to the weights of items.

    channels: of the CNN's layers, each halving the picture; epochs, batch_size, learning_rate: of its Adam
    under one cosine.
    """

    num_buckets: int = 2048
    regularization: float = 5.0
    channels: tuple[int, ...] = (16, 32, 64)
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)


class ContentModel:
    """Predicts item factors [items, f] from sparse content rows and, if it was fitted with them, pictures."""

    def __init__(self, config: ContentConfig, weights: Float32, look: nn.Module | None, scale: float) -> None:
        self.config, self.weights, self.look, self.scale = config, weights, look, scale

    @staticmethod
    def fit(
        config: ContentConfig,
        content: sparse.csr_matrix,
        factors: Float32,
        num_interactions: NDArray[np.float64],
        pictures: Tensor | None = None,
    ) -> ContentModel:
        """Return the model fitted to items with interactions.

        content: CSR [items, buckets]; factors: float32 [items, f]; num_interactions: [items], above 0; an
        item is weighted by the square root of it. pictures: float32 [items, 3, size, size]. Raises ValueError
        if there is no item.
        """
        if not len(factors):
            raise ValueError("no item has interactions: there is nothing to learn content from")
        sureness = np.sqrt(num_interactions)
        weighed = content.multiply(sureness[:, None]).tocsr()
        system = (weighed.T @ content).toarray() + config.regularization * np.eye(content.shape[1])
        weights = np.linalg.solve(system, weighed.T @ factors.astype(np.float64)).astype(np.float32)
        left = factors - content @ weights
        if pictures is None:
            return ContentModel(config, weights, None, 1.0)
        scale = float(np.sqrt(np.average(left**2, axis=0, weights=sureness).mean()))
        look = _fit_look(config, pictures, torch.from_numpy(left / scale), torch.from_numpy(sureness))
        return ContentModel(config, weights, look, scale)

    def predict(self, content: sparse.csr_matrix, pictures: Tensor | None = None) -> Float32:
        """Return factors float32 [items, f]; raises ValueError unless pictures are given as in the fit."""
        if (pictures is None) != (self.look is None):
            how = "with" if self.look is not None else "without"
            raise ValueError(f"pictures: the model was fitted {how} them; predict likewise")
        found = np.asarray(content @ self.weights, dtype=np.float32)
        if self.look is None or pictures is None or not len(found):
            return found
        self.look.eval()
        with torch.inference_mode():
            seen = torch.cat([self.look(part) for part in torch.split(pictures, 256)])
        return np.asarray(found + self.scale * seen.numpy(), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and settings (JSON)."""
        tensors = {"weights": torch.from_numpy(self.weights)}
        if self.look is not None:
            tensors |= {f"look.{name}": value for name, value in self.look.state_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / _WEIGHTS)
        state = {"format_version": FORMAT_VERSION, "config": asdict(self.config), "scale": self.scale}
        write_json(folder / _STATE, state | {"has_look": self.look is not None})

    @staticmethod
    def load(folder: Path) -> ContentModel:
        """Read what `save` wrote; raises ValueError for a file of another format."""
        state = read_json(folder / _STATE)
        if state["format_version"] != FORMAT_VERSION:
            raise ValueError(f"{folder / _STATE}: format_version is {state['format_version']}")
        config = ContentConfig(**(state["config"] | {"channels": tuple(state["config"]["channels"])}))
        tensors = load_safetensors(folder / _WEIGHTS)
        weights = tensors.pop("weights")
        look = None
        if state["has_look"]:
            look = look_of(config, weights.shape[1])
            look.load_state_dict({n.removeprefix("look."): torch.from_numpy(v) for n, v in tensors.items()})
        return ContentModel(config, weights, look, state["scale"])


def look_of(config: ContentConfig, num_factors: int) -> nn.Module:
    """Return a CNN from pictures float32 [n, 3, size, size] to float32 [n, num_factors]."""
    layers: list[nn.Module] = []
    before = 3
    for channels in config.channels:
        layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    pooled = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * before, 128), nn.ReLU()]
    return nn.Sequential(*layers, *pooled, nn.Dropout(0.2), nn.Linear(128, num_factors))


def _fit_look(config: ContentConfig, pictures: Tensor, target: Tensor, sureness: Tensor) -> nn.Module:
    torch.manual_seed(config.seed)
    look = look_of(config, target.shape[1])
    optimizer = torch.optim.AdamW(look.parameters(), lr=config.learning_rate, weight_decay=0.01)
    num = len(pictures)
    steps = config.epochs * -(-num // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weight = (sureness / sureness.mean()).to(torch.float32)[:, None]
    look.train()
    for _ in range(config.epochs):
        for chosen in torch.split(torch.randperm(num), config.batch_size):
            if len(chosen) < 2:  # one picture alone has no batch statistics
                continue
            loss = (weight[chosen] * (look(pictures[chosen]) - target[chosen].to(torch.float32)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return look.eval()
