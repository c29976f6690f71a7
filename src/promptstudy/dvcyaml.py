"""Reading dvc.yaml, the definition of the pipeline."""

from pathlib import Path
from typing import Any

import yaml


def read_stages(root: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of the project at `root`, {name: definition}.

    A stage with `foreach` is what its `do` says. Raises `FileNotFoundError` if DVC does not run
    the project.
    """
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    stages = yaml.load(text, yaml.CSafeLoader)["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}
