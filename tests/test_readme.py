"""The README says what the last run gave."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_results_are_those_of_the_last_run():
    shown = re.search(r"<!-- results:.*?-->\n(.*)<!-- /results -->", README, re.DOTALL).group(1)
    assert shown.strip() == (PROJECT / "reports" / "results.md").read_text("utf-8").strip()


def test_files_that_it_names_exist():
    for name in re.findall(r"`((?:src|benchmarks|reports|notebooks|tests)/[\w./]+)`", README):
        assert (PROJECT / name).exists() or "yours" in name, name
    for name in re.findall(r"\]\(((?!http)[\w./]+)\)", README):
        assert (PROJECT / name).exists(), name
    for name in re.findall(r"`(0\d_\w+)`", README):
        assert (PROJECT / "notebooks" / f"{name}.ipynb").exists(), name
