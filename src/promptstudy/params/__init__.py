"""`params.yaml`: what can be set (`suite`, and a module for each kind of block), and reading it."""

from .blocks import Block
from .data import (
    ORIGINAL,
    BackboneParams,
    DatasetParams,
    FeatureParams,
    Layout,
    TargetParams,
    TransferParams,
)
from .language import PriceParams
from .method import ContextParams, Schedule, Setting
from .reading import read_block
from .suite import Params, load_params
