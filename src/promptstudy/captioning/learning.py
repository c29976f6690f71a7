"""How LiMBeR's maps are learned: AdamW, a warm-up, then a linear decay, as in LiMBeR's code."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import DamagedFile, MissingFile
from ..files import load_tensors, save_tensors
from ..methods.losses import Batch

STEP = 1_000_003  # keeps the random numbers of a run's steps apart from those of other runs
SLOWER = 0.1  # AAPE's generator and aggregator learn at this share of the maps' rate
EVERY = 25  # steps between two writes: what an interruption can cost


class Recipe(NamedTuple):
    """How long and how fast to learn; the defaults are LiMBeR's where they do not depend on size.
    """

    steps: int
    batch_size: int  # of each run
    lr: float = 1e-2  # of the maps to tokens; LiMBeR's is 8e-4, for batches of 2,048
    warmup: int = 20  # steps
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest norm of a run's gradient


def rate(recipe: Recipe, step: int) -> float:
    """Return the share of the highest learning rate that a step has; steps count from 0."""
    rising = (step + 1) / max(1, recipe.warmup)
    falling = (recipe.steps - step) / max(1, recipe.steps - recipe.warmup)
    return min(1.0, rising, falling)


def learn(method: Any, images: Tensor, labels: Tensor, draws: Tensor, recipe: Recipe,
          seeds: Sequence[int], checkpoint: Path, provenance: dict[str, Any]) -> Tensor:
    """Train `Limber` or `LimberAAPE` in place and return its losses [steps, R].

    images: normalised features [N, d] with their labels [N]; draws: indices [R, n] of the images of
    each run. Every step draws its images, captions and dropout from run and step alone. So a run
    that was interrupted goes on from `checkpoint`, if that is of the same `provenance`, and ends
    as if it had not been. What a finished run has learned is put back from there.
    """
    parameters = {name: p for name, p in method.named_parameters() if p.requires_grad}
    maps = [p for name, p in parameters.items() if "reader" in name]
    others = [p for name, p in parameters.items() if "reader" not in name]
    groups = [{"params": maps, "peak": recipe.lr}, {"params": others, "peak": recipe.lr * SLOWER}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]],
                                  betas=recipe.betas, weight_decay=0.0)
    record = {**provenance, "recipe": recipe._asdict()}
    losses = _resume(checkpoint, record, parameters, optimizer)
    known = len(losses)
    method.train()
    with tqdm(total=recipe.steps, initial=len(losses), desc=provenance["variant"],
              unit="step", mininterval=5) as progress:
        while len(losses) < recipe.steps:
            step = len(losses)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate(recipe, step)
            for seed, generator in zip(seeds, method.generators, strict=True):
                generator.manual_seed(seed * STEP + step)
            chosen = torch.stack([row[torch.randperm(len(row), generator=generator)
                                      [:recipe.batch_size]]
                                  for row, generator in zip(draws, method.generators, strict=True)])
            loss = method.loss(Batch(chosen, images[chosen], labels[chosen]))
            optimizer.zero_grad()
            loss.sum().backward()
            clip_runs(parameters.values(), recipe.clip)
            optimizer.step()
            losses.append(loss.detach())
            progress.update()
            progress.set_postfix(loss=f"{loss.mean().item():.2f}", refresh=False)
            if len(losses) % EVERY == 0 and len(losses) < recipe.steps:
                save_tensors(checkpoint, dict(_state(parameters, losses, optimizer)), record)
    if known < recipe.steps:
        save_tensors(checkpoint, dict(_state(parameters, losses)), record)
    method.eval()
    return torch.stack(losses)


def clip_runs(parameters: Any, most: float) -> None:
    """Scale the gradients [R, ...] of each run whose norm over all parameters is above `most`."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
    factors = (most / norms.clamp(min=1e-12)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def _state(parameters: dict[str, nn.Parameter], losses: list[Tensor],
           optimizer: torch.optim.Optimizer | None = None) -> Iterator[tuple[str, Tensor]]:
    """What is stored: losses, what was learned, and what an unfinished run needs to go on."""
    yield "losses", torch.stack(losses)
    for name, parameter in parameters.items():
        yield f"learned/{name}", parameter.detach()
        for key, value in optimizer.state[parameter].items() if optimizer else ():
            yield f"{key}/{name}", value


def _resume(checkpoint, record, parameters, optimizer):
    """Put back what `_state` stored, if there is any of this record; return the losses so far."""
    try:
        stored = load_tensors(checkpoint, record)[0]
    except (MissingFile, DamagedFile):
        return []
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[f"learned/{name}"])
            optimizer.state[parameter] = {key: stored[f"{key}/{name}"]
                                          for key in ("step", "exp_avg", "exp_avg_sq")
                                          if f"{key}/{name}" in stored}
    return list(stored["losses"])
