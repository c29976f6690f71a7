"""What the blocks of all methods have in common."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from .blocks import Block, Positive


class Schedule(Block):
    """SGD with CoOp's learning-rate schedule, stepped per epoch, as in CoOp's code."""

    epochs: dict[Positive, Positive] = Field(description="number of epochs for each shot count")
    epochs_on: dict[str, Positive] = Field(
        {}, description="dataset: its number of epochs instead, for every shot count")
    max_steps: Positive | None = Field(
        None, description="limit on optimisation steps: fewer epochs are run, but at least one "
                          "after warm-up; null: no limit")
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 0.002
    base_to_new_lr: Annotated[float, Field(gt=0)] | None = Field(
        None, description="learning rate in base-to-new, where a lower one may preserve new-class "
                          "accuracy; null: lr")
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    warmup_lr: Annotated[float, Field(gt=0)] = 1e-5


class ContextParams(Block):
    """The learnable part of a prompt."""

    n_ctx: Positive = Field(16, description="number of context vectors M")
    class_specific: bool = Field(False, description="one context per class (CSC) or one for all")
    position: Literal["end", "middle", "front"] = Field("end", description="of the class name")
    init: str | None = Field(None, description="M initial words; null: N(0, 0.02^2)")

    @property
    def label(self) -> str:
        """Short name of the variant, e.g. `M16`, `M16-csc`, `M4-middle-words`."""
        parts = [f"M{self.n_ctx}", "csc" if self.class_specific else "",
                 self.position if self.position != "end" else "", "words" if self.init else ""]
        return "-".join(part for part in parts if part)


class Setting(NamedTuple):
    """One row of a method's plan; its runs, one per seed, are trained together."""

    protocol: str  # few_shot, base_to_new, transfer or retrieval
    variant: Any  # a block with a `label`, of another kind for each method
    shots: int

    @property
    def key(self) -> str:
        """Name of the setting in files, e.g. `few_shot/M16/4`."""
        return f"{self.protocol}/{self.variant.label}/{self.shots}"


class MethodParams(Block):
    """The settings of every method. A subclass adds the variants that it trains: `few_shot` (None:
    not trained few-shot), `base_to_new` and the ablations, `ablations`. It also gives the method's
    name, colour and marker, which are not settings.
    """

    title: ClassVar[str]  # in tables and figures
    arxiv: ClassVar[str]  # the preprint's number, which orders the methods; other text comes last
    colour: ClassVar[str]  # in figures, where it means the method and nothing else
    marker: ClassVar[str]  # matplotlib's name of its marker, e.g. "o"
    required: ClassVar[bool] = False  # must every suite run it?
    inferred: ClassVar[bool] = False  # is only the paper's abstract known?
    naming: ClassVar[str] = "rename one"  # what to do if two ablations share a name

    if TYPE_CHECKING:
        few_shot: Any = None
        base_to_new: Any = None

    schedule: Schedule
    ablations: Sequence[Block] = []
    ablation_protocol: Literal["few_shot", "base_to_new"] = "few_shot"
    ablation_datasets: list[str] = Field(
        [], description="datasets on which the ablations are trained")
    ablation_shots: list[Positive] = Field([], description="shot counts of the ablations")

    @property
    def ablation_variants(self) -> list[Any]:
        """The variants of the ablations, as a list."""
        return list(self.ablations)

    @property
    def named_datasets(self) -> dict[str, Iterable[str]]:
        """The datasets that the block names, `{key: names}`: each must be one of the suite's."""
        return {"ablation_datasets": self.ablation_datasets,
                "schedule.epochs_on": self.schedule.epochs_on}


class NamedAblations(MethodParams):
    """A method whose ablations have names: each lists its changes to the main variant.

    That is the main variant of `ablation_protocol`.
    """

    ablations: dict[str, Any] = {}  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def _complete_ablations(cls, values):
        """Complete every ablation with its name and the values that it does not change."""
        if not isinstance(values, dict) or not isinstance(values.get("ablations"), dict):
            return values
        protocol = values.get("ablation_protocol", cls.model_fields["ablation_protocol"].default)
        main = values.get(protocol) or {}
        ablations = {name: {**main, **change, "name": name} if isinstance(change, dict) else change
                   for name, change in values["ablations"].items()}
        return {**values, "ablations": ablations}

    @property
    def ablation_variants(self) -> list[Any]:
        """The variants of the ablations, as a list."""
        return list(self.ablations.values())

    @property
    def base_to_new_labels(self) -> list[str]:
        """Names of all variants with base-to-new results: the main one, then the ablations."""
        return [variant.label for variant in self._base_to_new_variants]

    @property
    def _base_to_new_variants(self):
        ablations = self.ablation_variants if self.ablation_protocol == "base_to_new" else []
        return [self.base_to_new, *ablations]
