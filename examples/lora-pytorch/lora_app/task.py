"""The model, and data that each peer makes for itself: points that the frozen network half understands."""

from __future__ import annotations

import torch
from torch import nn

FEATURES, KINDS, RANK = 32, 4, 2
torch.set_num_threads(1)  # peers share a machine here


class Adapted(nn.Module):
    """logits = x (frozen + A B). In place of a seed, a real app loads weights that every peer has."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        frozen = torch.randn(FEATURES, KINDS, generator=random) / FEATURES**0.5
        self.frozen = nn.Parameter(frozen, requires_grad=False)
        self.lora_a = nn.Parameter(torch.randn(FEATURES, RANK, generator=random) / FEATURES**0.5)
        self.lora_b = nn.Parameter(torch.zeros(RANK, KINDS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.frozen + self.lora_a @ self.lora_b)


def adapter_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """What is trained, and so all that travels."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def make_data(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points, shape (count, 32), and kinds, shape (count,)."""
    truth = Adapted()
    shift = torch.Generator().manual_seed(2)
    with torch.no_grad():
        truth.lora_a.copy_(torch.randn(FEATURES, RANK, generator=shift))
        truth.lora_b.copy_(torch.randn(RANK, KINDS, generator=shift))
        x = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))
        return x, truth(x).argmax(dim=1)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Thirty steps down the gradient; the loss before the last."""
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.5)
    loss = torch.zeros(())
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    return loss.item()


@torch.no_grad()
def test(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    logits = model(x)
    accuracy = (logits.argmax(dim=1) == y).float().mean().item()
    return nn.functional.cross_entropy(logits, y).item(), accuracy
