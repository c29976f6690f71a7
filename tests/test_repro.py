"""What `make repro` says before and after DVC's run."""

from promptstudy.repro import _described, summary
from promptstudy.results import results_table, write_results


def test_changes_are_said_one_by_one():
    assert _described([
        "changed command",
        {"changed deps": {"src/a.py": "modified", "params.yaml": {"coop.schedule": "modified"}}},
        {"changed outs": {"artefacts/x": "deleted"}}]) == [
            "changed command", "src/a.py modified", "coop.schedule modified", "artefacts/x deleted"]


def test_the_summary_names_stages_reasons_report_and_first_numbers(tmp_path, trained):
    params = trained.params
    row = {"suite": "tiny", "backbone": "tiny", "protocol": "few_shot", "subset": "all",
           "metric": "top1", "n_test": 10}
    rows = [row | {"dataset": dataset, "method": method, "variant": variant, "shots": shots,
                   "seed": seed, "value": value}
            for dataset in ("shapes", "figures") for method, variant, shots, seed, value in (
                ("zero_shot", "own template", 0, 0, 30), ("coop", "M4", 2, 1, 60),
                ("coop", "M4", 2, 2, 70), ("coop", "M4", 1, 1, 10), ("dualpt", "N2-M4", 2, 1, 80),
                ("dualpt", "neither", 2, 1, 0), ("aape", "attention", 2, 1, 90))]
    (params.root / "reports").mkdir(exist_ok=True)
    write_results(params.root / "reports" / "results.csv", results_table(rows))
    text = summary({"coop@shapes": ["src/x.py modified", "seeds modified"]},
                   {"coop@shapes": 61.4, "report": 2.0}, params)
    assert text.splitlines() == [
        "2 stages ran:", "  coop@shapes: 61 s (src/x.py modified and 1 more)",
        "  report: 2 s (asked for)", f"Report: {params.root / 'reports' / 'index.html'}",
        "Accuracy in %, 2 shots, mean over 2 datasets: Zero-shot CLIP 30.0, CoOp 65.0, "
        "DuAl-PT 80.0"]
    assert summary({}, {}, params).startswith("everything was up to date\n")
    (params.root / "reports" / "results.csv").unlink()  # as before the first evaluation
    assert summary({}, {}, params) == "everything was up to date"
