"""What the full grid of the paper suite costs, on paper: stages, operations and hours on one GPU.

    python benchmarks/grid_cost.py

Every setting that `params-paper.yaml` trains, with its own epochs, on four backbones: 1 to 16 shots
of eleven datasets, base-to-new, what is trained on ImageNet to be tested elsewhere, the ablations.
Operations are counted by `promptstudy.cost`; a GPU's rates are ASSUMED in `promptstudy.machine`.
Evaluation is left out. `python -m promptstudy plan` does the same for a suite on this machine,
`python -m promptstudy cluster plan --gpus N` on so many GPUs.
"""

from pathlib import Path

from promptstudy.budget import stages_of
from promptstudy.cost import Speed, Tower, Work, encoding, image_gflop, training
from promptstudy.machine import (
    CORES,
    DECODE_SECONDS,
    STEP_SECONDS,
    TFLOPS_BF16,
    TFLOPS_FP32,
)
from promptstudy.params import load_params
from promptstudy.sizes import size_of

BACKBONES = ("RN50-quickgelu", "RN101-quickgelu", "ViT-B-32-quickgelu", "ViT-B-16-quickgelu")


def main():
    params = load_params(Path(__file__).parents[1] / "params-paper.yaml")
    params = params.model_copy(update={"data_root": None})  # sizes are the published ones
    params._root = Path(__file__).parents[1]
    speed = Speed(1000 * TFLOPS_FP32, float("inf"), STEP_SECONDS)
    sizes = {name: size_of(params, name) for name in params.every_dataset}
    stages = stages_of(params)  # `promptstudy suite` adds those of its other methods
    added = [method for method in params.methods
             if f"{method}@{next(iter(params.datasets))}" not in stages]
    n_stages = len(stages) + len(added) * len(params.datasets)

    print(f"{n_stages} stages per backbone\n")
    print(f"{'training':10} {'runs':>6} {'steps':>10} {'PFLOP':>8} {'hours':>7}")
    tower, whole = Tower(512, 12, 512), Work()  # the text tower of all four; RN50's dim is 1024
    for method in params.methods:
        work = sum((training(params, method, name, sizes[name], tower)
                    for name in params.datasets), Work())
        whole += work
        print(_row(method, work, speed))
    print(_row("all", whole, speed))

    work = sum((encoding(params, size) for size in sizes.values()), Work())
    decoded = work.images - params.features.views * sum(
        sizes[name].drawn(params) for name in params.datasets)
    decoding = work.images * DECODE_SECONDS / CORES / 3600
    print(f"\nfeatures: {decoded:,} images, {work.images:,} with their views; "
          f"decoding {decoding:.1f} h")
    hours, trained = 0, whole.seconds(speed) / 3600
    for name in BACKBONES:
        gflop = image_gflop(name)
        extraction = max(work.images * gflop / TFLOPS_BF16 / 1000 / 3600, decoding)
        hours += extraction + trained
        print(f"{name:20} {gflop:5.1f} GFLOP an image, {work.images * gflop / 1e6:6.1f} PFLOP, "
              f"extraction {extraction:.1f} h, with training {extraction + trained:.1f} h")
    print(f"\nall four backbones: {len(BACKBONES) * n_stages} stages, {hours:.0f} hours")


def _row(name, work, speed):
    return (f"{name:10} {work.runs:6} {work.n_steps:10,} {work.pflop:8.1f} "
            f"{work.seconds(speed) / 3600:7.1f}")


if __name__ == "__main__":
    main()
