"""A GPU that is not there: its tensors live on the CPU, and mixing the two is an error."""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

GPU = torch.device("meta")  # the one device beside the CPU that torch always has
ATEN = torch.ops.aten


class Pretended(torch.Tensor):
    """A tensor that says it is on `GPU`; `inner` on the CPU holds its numbers."""

    @staticmethod
    def __new__(cls, data):
        return torch.Tensor._make_wrapper_subclass(
            cls, data.shape, strides=data.stride(), storage_offset=data.storage_offset(),
            dtype=data.dtype, device=GPU, requires_grad=data.requires_grad)

    def __init__(self, data):
        self.inner = data

    def tolist(self):
        """Return the numbers; torch refuses that to a tensor of a class of its own."""
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatched(function, args, kwargs or {})


@contextmanager
def pretend_gpu():
    """While it lasts, what is made on `GPU` is a `Pretended` tensor."""
    with Operations(), Literals():
        yield


class Operations(TorchDispatchMode):
    """Operations on the played GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return dispatched(function, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Tensors made from lists, which torch moves to their device by itself."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor):
            return function(*args, **kwargs | {"device": None}).to(kwargs.get("device") or "cpu")
        return function(*args, **kwargs)


def dispatched(function, args, kwargs):
    """Run an operation on the CPU and return what it returns, on the device where it would be."""
    operands = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, Pretended) for x in operands)
    device, moves = kwargs.get("device"), function in (ATEN._to_copy.default, ATEN.copy_.default)
    if function is ATEN.index.Tensor or "index_put" in str(function):
        operands = [x for x in operands if x.dtype not in (torch.int64, torch.bool)]
    if there and not moves and any(x.ndim and not isinstance(x, Pretended) for x in operands):
        raise RuntimeError(f"{function} got tensors of the CPU and of the GPU")
    if device is not None:
        there = torch.device(device) == GPU
        kwargs = {**kwargs, "device": torch.device("cpu")}
    own = tree_map_only(Pretended, lambda x: x.inner, (args, kwargs))
    result = function(*own[0], **own[1])
    if function._schema.name.endswith("_") and isinstance(result, torch.Tensor):
        return args[0]  # it was changed in place
    return tree_map_only(torch.Tensor, Pretended, result) if there else result
