"""How much faster a CoOp step's text side is than its usual form, and that it computes the same.

    python benchmarks/text_encoder.py

Takes two minutes. On 2 cores:

    tower   classes  plain s    cut          shared prefix   features  gradients  runs
    RN50         37     2.68    3.4 ( 3.3)      9.9 (11.4)        6e-07     7e-07    1.24
    RN50        100     8.61    3.9 ( 3.3)     14.7 (15.8)        6e-07     9e-07    1.18
    pocket       37     0.26    3.2 ( 3.4)     10.5 (13.9)        7e-07     5e-07    1.25
    pocket      100     0.68    3.2 ( 3.4)     10.9 (19.0)        6e-07     9e-07    1.43
"""

import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip.prompts import PromptLayout
from promptstudy.clip.text import TextEncoder
from promptstudy.params import ContextParams

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from plain import (  # noqa: E402
    POCKET,
    TOKENIZER,
    difference,
    plain_encode,
    plain_prompts,
    small_clip,
)

THREADS, N_CTX, RUNS = 2, 16, 3
TOWERS = {"RN50": {"dim": 1024, "width": 512, "heads": 8, "layers": 12}, "pocket": POCKET}
REPEATS = {"RN50": 3, "pocket": 7}


def forms(model, class_names):
    """Return `{name: function from contexts [R, M, D] to features [R, C, d]}`."""
    encoder = TextEncoder(model, TOKENIZER)
    layout = PromptLayout(encoder, class_names, ContextParams(n_ctx=N_CTX))

    def usual(contexts, cut):
        features = []
        for context in contexts:
            prompts, ends = plain_prompts(model, class_names, context, "end")
            features.append(plain_encode(model, prompts[:, :ends.max() + 1 if cut else None], ends))
        return torch.stack(features)

    return {"plain": lambda contexts: usual(contexts, cut=False),
            "cut": lambda contexts: usual(contexts, cut=True),
            "shared": lambda contexts: encoder(*layout(contexts))}


def step(form, contexts):
    """Do a forward and a backward pass; return features, the contexts' gradient and seconds."""
    contexts = contexts.clone().requires_grad_()
    start = time.perf_counter()
    features = form(contexts)
    features.square().sum().backward()
    return features.detach(), contexts.grad, time.perf_counter() - start


def fastest(calls, repeats):
    """Return each call's smallest time; the calls take turns, so that all see the same machine."""
    times = [[call()[-1] for call in calls] for _ in range(repeats)]
    return [min(column) for column in zip(*times, strict=True)]


def counted(form, contexts):
    """Return `(operations, features, gradient)` of one step; it also warms up."""
    with FlopCounterMode(display=False) as counter:
        features, gradient, _ = step(form, contexts)
    return counter.get_total_flops(), features, gradient


def main():
    torch.set_num_threads(THREADS)
    print("plain time / time (operations) of one run; differences from plain; "
          f"{RUNS} runs: one after another / batched")
    print("tower   classes  plain s    cut          shared prefix   features  gradients  runs")
    for tower, shape in TOWERS.items():
        model = small_clip(**shape)
        for n_classes in (37, 100):
            names = [" ".join(["word"] * (1 + i % 5)) for i in range(n_classes)]
            generator = torch.Generator().manual_seed(0)
            contexts = 0.02 * torch.randn(RUNS, N_CTX, shape["width"], generator=generator)
            form = forms(model, names)
            calls = [lambda f=f, c=contexts: step(f, c[:1]) for f in form.values()]
            operations, features, gradients = zip(
                *(counted(f, contexts[:1]) for f in form.values()), strict=True)
            plain, cut, shared = fastest(calls, REPEATS[tower])

            def in_turn(form=form, contexts=contexts):
                return [sum(step(form["shared"], c[None])[-1] for c in contexts)]

            def batched(form=form, contexts=contexts):
                return step(form["shared"], contexts)

            one_by_one, together = fastest([in_turn, batched], REPEATS[tower])
            print(f"{tower:7} {n_classes:7} {plain:8.2f} "
                  f"{plain / cut:6.1f} ({operations[0] / operations[1]:4.1f}) "
                  f"{plain / shared:8.1f} ({operations[0] / operations[2]:4.1f}) "
                  f"{difference(features[2], features[0]):12.0e} "
                  f"{difference(gradients[2], gradients[0]):9.0e} "
                  f"{one_by_one / together:7.2f}", flush=True)


if __name__ == "__main__":
    main()
