"""Where things are: the folder of all datasets' images, and the stored feature packs."""

from pathlib import Path

from ..errors import DatasetError
from ..params import Params
from .paths import text_fault


def data_root(params: Params) -> Path:
    """Return the folder of images that `data_root` names; raises `DatasetError`."""
    if params.data_root is None:
        raise DatasetError("data_root is not set in params.yaml; set it to the folder that holds "
                           "the datasets' image folders")
    root = params.root / params.data_root.expanduser()
    check_readable(root)
    if not root.is_dir():
        raise DatasetError(f"data_root: the folder {root} does not exist; correct it in "
                           "params.yaml, or remove the key to use the stored feature packs")
    return root


def check_readable(folder: Path) -> None:
    """Refuse a folder whose name this machine's text encoding cannot read."""
    if fault := text_fault(str(folder)):
        raise DatasetError(f"the name of the folder {str(folder)!r} {fault}")


def pack_path(params: Params, name: str) -> Path:
    """Return where the stored pack of dataset `name` is."""
    return params.root / "data" / "packs" / f"{name}.safetensors"
