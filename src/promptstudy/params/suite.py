"""`params.yaml`, typed and validated: one object that every stage and notebook reads.

A folder with a `params.yaml` is a *suite*: every path in it, and every artefact made from it, is
relative to that folder. Suites differ only in values.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model

from ..errors import ParamsError
from . import methods
from .blocks import Block, Positive
from .cross_check import cross_check
from .data import BackboneParams, CaptionedParams, DatasetParams, FeatureParams, TransferParams
from .language import LLMParams
from .method import MethodParams
from .reading import nearest, read_block


class _Suite(Block):
    """Everything that a run of the pipeline depends on, except the methods' blocks."""

    suite: str
    data_root: Path | None = Field(
        None, description="folder of images in CoOp's layout; null: use the feature packs")
    backbone: BackboneParams
    shots: list[Positive]
    base_to_new_shots: Positive = 16
    seeds: list[Annotated[int, Field(ge=0)]]
    datasets: Annotated[dict[str, DatasetParams], Field(min_length=1)]
    transfer: TransferParams
    captioned: dict[str, CaptionedParams] = {}
    features: FeatureParams = FeatureParams()
    llm: LLMParams

    _root: Path = Path(".")

    @property
    def methods(self) -> dict[str, MethodParams]:
        """The blocks of the methods that the suite runs, {name: block}."""
        blocks = {name: getattr(self, name) for name in methods.BLOCKS}
        return {name: block for name, block in blocks.items() if block is not None}

    @property
    def every_dataset(self) -> dict[str, Any]:
        """The blocks of all datasets, including test-only ones, {name: block}."""
        return {**self.datasets, **self.transfer.domain}

    def key_of(self, name: str) -> str:
        """Return the key of a dataset in params.yaml, e.g. `datasets.dtd`."""
        block = ("captioned" if name in self.captioned else
                 "transfer.domain" if name in self.transfer.domain else "datasets")
        return f"{block}.{name}"

    def template_of(self, name: str) -> str:
        """Return the hand-crafted prompt of a dataset; of a shifted version, the source's."""
        home = self.transfer.source if name in self.transfer.domain else name
        return self.datasets[home].template

    @property
    def root(self) -> Path:
        """The suite's folder: artefacts are written below it."""
        return self._root

    def artefact(self, stage: str, dataset: str) -> Path:
        """Return the path of what a stage makes for a dataset."""
        return self.root / "artefacts" / stage / f"{dataset}.safetensors"

    @property
    def about_backbone(self) -> str:
        """The note on the model in a backbone's folder, for every page with its numbers; or ""."""
        record = self.root / self.backbone.name.removeprefix("local-dir:") / "build.json"
        return json.loads(record.read_text()).get("about", "") if record.is_file() else ""

    def dataset(self, name: str | None = None) -> str:
        """Return the name of a dataset of this suite: `name` itself, or the first one for None.

        Raises `ParamsError` with the nearest valid name.
        """
        return next(iter(self.datasets)) if name is None else _known(name, self.datasets)

    def any_dataset(self, name: str) -> str:
        """Return `name`, which may be a test-only dataset; raises like `dataset`."""
        return _known(name, self.every_dataset)


if TYPE_CHECKING:
    class Params(_Suite):
        """What a type checker sees: the methods' blocks are found only when the package runs."""

        def __getattr__(self, name: str) -> Any: ...
else:
    # every method can have a block; a suite without it does not run the method
    Params = create_model(
        "Params", __base__=_Suite, __doc__="Everything that a run of the pipeline depends on.",
        __module__=__name__,
        **{name: block if block.required else (
            block | None, Field(None, description=f"{block.title}; null: it is not run"))
           for name, block in methods.BLOCKS.items()})


def load_params(path: str | Path | None = None) -> Params:
    """Return the validated `Params` of `path`.

    None: the file that $PROMPTSTUDY_PARAMS names, else `params.yaml` in the working folder or the
    nearest one above it. Raises `ParamsError` listing every fault: the key, what is
    wrong with it, and the nearest valid key.
    """
    path = Path(path or os.environ.get("PROMPTSTUDY_PARAMS") or _find_params())
    params = read_block(path, Params)
    faults = cross_check(params)
    if faults:
        raise ParamsError(f"{path} cannot be used:\n" + "\n".join(f"  {f}" for f in faults))
    params._root = path.resolve().parent
    return params


def _find_params():
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder / "params.yaml"
    raise ParamsError(f"no params.yaml in {here} or above it; run this inside the project")


def _known(name, datasets):
    if name not in datasets:
        raise ParamsError(f"dataset {name!r} is not in params.yaml" + nearest(name, datasets))
    return name
