"""The README says what the last run gave."""

import re
from pathlib import Path

from promptstudy import code

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


def test_every_module_is_listed_and_imports_only_what_is_listed_above_it():
    listing = "errors.py" + README.split("```\nerrors.py")[1].split("```")[0]
    lines = [line.split("  ")[0] for line in listing.splitlines() if line[:1] != " "]
    place = {name: number for number, line in enumerate(lines) for name in line.split()}

    def listed(path):  # a module at the top of the package, or the folder there that holds it
        first, *inner = path.relative_to(code.PACKAGE).parts
        return f"{first}/" if inner else first

    for path in code.PACKAGE.rglob("*.py"):
        if path.parent == code.PACKAGE and path.name in ("__init__.py", "__main__.py"):
            continue
        for needed in code._needs(path):
            if needed.suffix == ".py" and needed != code._file(code.NAME):
                assert place[listed(needed)] <= place[listed(path)], (path.name, needed.name)
