"""The model, and data that each peer makes for itself: points on two noisy rings."""

from __future__ import annotations

import torch
from torch import nn

torch.set_num_threads(1)  # peers share a machine here


def make_model() -> nn.Module:
    """Of points (n, 2) two logits (n, 2). Its state has integers of no dimension (num_batches_tracked)."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def make_data(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points, shape (count, 2), and which ring each is on, shape (count,)."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=random)
    angles = 2 * torch.pi * torch.rand(count, generator=random)
    radii = 1 + labels + 0.2 * torch.randn(count, generator=random)
    return torch.stack([radii * angles.cos(), radii * angles.sin()], dim=1), labels


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int = 2) -> float:
    """The mean loss of the last epoch."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    losses: list[float] = []
    for _ in range(epochs):
        losses = []
        for at in range(0, len(y), 32):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x[at : at + 32]), y[at : at + 32])
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def test(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    model.eval()
    logits = model(x)
    accuracy = (logits.argmax(dim=1) == y).float().mean().item()
    return nn.functional.cross_entropy(logits, y).item(), accuracy
