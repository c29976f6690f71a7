"""`benchmarks/gpu.py`, which is for a GPU, on a CPU and a tiny suite."""

import sys

import torch
from tiny_project import PROJECT

sys.path.insert(0, str(PROJECT / "benchmarks"))
import gpu

from promptstudy.params import load_params


def test_every_table_has_its_lines(tiny_suite, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "WAYS", [way for way in gpu.WAYS if way != "torch.compile"])
    gpu.main(["--params", str(tiny_suite / "params.yaml"), "--classes", "3", "5", "--steps", "2"])
    steps, ways, equality = capsys.readouterr().out.split("\n\n")[1:]
    methods = load_params(tiny_suite / "params.yaml").methods
    assert [line.split()[0] for line in steps.splitlines()[1:]] == list(methods)
    assert [line.split()[0] for line in equality.splitlines()[1:]] == list(methods)
    for line in steps.splitlines()[1:]:
        assert all(float(line.split(f"{count} classes ")[1].split()[0]) > 0 for count in (3, 5))
    assert [line.split()[0] for line in ways.splitlines()[1:]] == ["fp32", "TF32", "bfloat16", "15"]
    assert "failed" not in ways
    assert all(float(line.split()[1]) == 0 for line in equality.splitlines()[1:])


def test_bfloat16_is_another_computation_and_fp32_the_same(tiny_suite):
    """The ways differ in what they compute, and leave nothing behind."""
    params, cpu = load_params(tiny_suite / "params.yaml"), torch.device("cpu")
    learned = []
    for way in ("fp32", "bfloat16", "fp32"):
        task = gpu.random_task(params, 5, cpu)
        with gpu.way_of(task, way):
            learned.append(gpu.trained(task, "coop", 3)[1]["contexts"])
    assert torch.equal(learned[0], learned[2]) and not torch.equal(learned[0], learned[1])
    torch.testing.assert_close(learned[1], learned[0], rtol=0.05, atol=0.05)
