"""Distillation: the text tower is taught to give texts the teacher's vectors."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..files import file_sha256, tensors_sha256, written_whole
from .text_tower import TextSampler, encode, prefix_vectors

if TYPE_CHECKING:
    from ..clip.text import TextEncoder


def distillation_loss(features: Tensor, targets: Tensor, scale: float = 25.0) -> Tensor:
    r"""Return $-\cos(z_i,t_i)$ averaged, plus $\mathrm{KL}(p_i\,\|\,q_i)$ with
    $p_i=\mathrm{softmax}_j(s\,t_i^\top t_j)$ and $q_i=\mathrm{softmax}_j(s\,z_i^\top t_j)$:
    the contrastive term, whose soft labels allow synonyms to be close."""
    features = F.normalize(features.float(), dim=1)
    wanted = (scale * targets @ targets.T).log_softmax(1)
    given = (scale * features @ targets.T).log_softmax(1)
    cosine = (features * targets).sum(1).mean()
    return 1 - cosine + F.kl_div(given, wanted, log_target=True, reduction="batchmean")


def _read_checkpoint(path, origin):
    if path is None or not Path(path).is_file():
        return None
    state = torch.load(path, weights_only=True)
    return state if state.get("origin") == origin else None


def _optimizers(parameters, lr, token_lr):
    """Return `(Muon, AdamW)`: Muon for the matrices inside the transformer, AdamW for the rest.

    Each group has a `peak` learning rate. Muon makes all singular values of an update alike, so
    that rare directions are learned too: trials of 250 steps ended at a loss of 1.0, with AdamW
    alone at 1.5.
    """
    tokens = parameters["token_embedding.weight"]
    hidden = [p for n, p in parameters.items() if p.ndim == 2 and n.startswith("blocks.")]
    inside = {id(p) for p in hidden} | {id(tokens)}
    outer = [p for p in parameters.values() if p.ndim > 1 and id(p) not in inside]
    vectors = [p for p in parameters.values() if p.ndim == 1]
    muon = torch.optim.Muon([{"params": hidden, "peak": lr}], weight_decay=0.05,
                            adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([{"params": [tokens], "peak": token_lr, "weight_decay": 0.0},
                               {"params": outer, "peak": 1e-3, "weight_decay": 0.05},
                               {"params": vectors, "peak": 1e-3, "weight_decay": 0.0}],
                              betas=(0.9, 0.98), fused=True)
    return muon, adamw


def train_text_tower(encoder: "TextEncoder", sampler: TextSampler, steps: int, batch: int = 512,
                     lr: float = 3e-3, token_lr: float = 5e-4, warmup: float = 0.05,
                     ema: float = 0.99, checkpoint: str | Path | None = None,
                     every: int = 100) -> list[float]:
    """Distil the text tower and return the loss of every step (a list of floats).

    One-cycle learning rates, Muon and AdamW, bfloat16 where it is safe; the model ends with the
    exponential moving average of its weights. With `checkpoint` (a path) the state is stored every
    `every` steps, and a second call with the same targets, settings and code resumes there.
    """
    parameters = dict(encoder.named_parameters())
    optimizers = _optimizers(parameters, lr, token_lr)
    average = {n: p.detach().clone() for n, p in parameters.items()}
    losses: list[float] = []
    origin = file_sha256(__file__) + tensors_sha256({
        "targets": sampler.targets, "start": parameters["token_embedding.weight"],
        "settings": torch.tensor([steps, batch, lr, token_lr, warmup, ema], dtype=torch.float64)})
    state = _read_checkpoint(checkpoint, origin)
    if state:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state["model"][name])
        average, losses = state["average"], state["losses"]
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        sampler.generator.set_state(state["generator"])

    def store(path):
        state = {"model": {n: p.detach() for n, p in parameters.items()}, "average": average,
                 "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                 "losses": losses, "origin": origin, "generator": sampler.generator.get_state()}
        with written_whole(path) as temporary:
            torch.save(state, temporary)

    bar = tqdm(total=steps, initial=len(losses), desc="distilling", mininterval=10)
    while len(losses) < steps:
        progress = len(losses) / steps
        rate = min(1.0, (progress + 1e-3) / warmup)
        rate *= 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - warmup) / (1 - warmup))))
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = group["peak"] * rate
        prefix, suffix, end, targets = sampler.batch(batch)
        with torch.autocast("cpu", torch.bfloat16):
            features = encode(encoder, prefix_vectors(encoder, prefix), suffix, end)
        loss = distillation_loss(features, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        keep = min(ema, len(losses) / (len(losses) + 10))
        torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()],
                             1 - keep)
        bar.update()
        if len(losses) % every == 0:
            bar.set_postfix(loss=sum(losses[-100:]) / len(losses[-100:]))
            if checkpoint is not None:
                store(checkpoint)
    bar.close()
    if checkpoint is not None:
        store(checkpoint)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    return losses
