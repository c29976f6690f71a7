"""What was learned, in files that others read: class weights, and CoOp's own checkpoints.

A file of class weights is a safetensors file as all of ours (see `files`): the tensor `weights`
[C, d], normalised, and in its record model, class names, logit scale and provenance. open_clip
alone then classifies with it.

CoOp's code stores `prompt_learner/model.pth.tar-EPOCH`, a pickle of a dict; of its `state_dict` it
reads `ctx` [M, D], or [C, M, D] for class-specific contexts, and drops the rest.
"""

import pickle
import types

import torch

from .errors import DamagedFile, PredictionError
from .files import file_sha256, save_tensors, written_whole
from .methods.coop import CoOp
from .params.method import ContextParams

# what a checkpoint of tensors needs; the optimiser and its schedule beside them are not looked at
NEEDED = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
          ("torch._utils", "_rebuild_parameter")}


def save_weights(path, params, backbone, class_names, weights, made_from):
    """Write class weights [C, d] and their record; `made_from` is the provenance, a dict."""
    save_tensors(path, {"weights": weights}, {
        "model": params.backbone.name, "pretrained": params.backbone.pretrained,
        "class_names": class_names, "logit_scale": backbone.logit_scale,
        "image_fingerprint": backbone.image_fingerprint,
        "text_fingerprint": backbone.text_fingerprint, "made_from": made_from})


def save_coop(path, predictor):
    """Write the context of a `Predictor`'s run as a checkpoint of CoOp's code.

    Raises `PredictionError` for a method that is more than one context.
    """
    if type(predictor.model) is not CoOp:
        raise PredictionError(
            f"CoOp's format holds one context, and {predictor.method} is more or none; it fits "
            "coop, kgcoop and prograd (without --format the class weights are exported)")
    context = predictor.model.contexts.detach()[predictor.run].clone()
    with written_whole(path) as temporary:  # the epoch is only printed by CoOp's code
        torch.save({"state_dict": {"ctx": context}, "epoch": 0, "val_result": None}, temporary)


class _Ignored:
    """Stands for an object of a checkpoint that is not needed; nothing of it is run."""

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, _):
        pass

    def __setitem__(self, _, __):
        pass


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers only: a checkpoint from elsewhere must not run code."""

    def find_class(self, module, name):
        return super().find_class(module, name) if (module, name) in NEEDED else _Ignored


_PICKLE = types.SimpleNamespace(Unpickler=_Unpickler, __name__="pickle",
                                load=lambda file, **options: _Unpickler(file, **options).load())


def load_coop(path):
    """Return the context [M, D] or [C, M, D] (float32) of a checkpoint of CoOp's code.

    Raises `DamagedFile` for a file that is none, `PredictionError` for another method's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE)
        state = state.get("state_dict", state)
        context = state["ctx"].float()
    except FileNotFoundError:
        raise DamagedFile(f"{path} does not exist; give a prompt_learner/model.pth.tar-EPOCH of "
                          "CoOp's code") from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError,
            pickle.UnpicklingError):
        raise DamagedFile(f"{path} is no checkpoint of CoOp's code: there is no tensor `ctx` in "
                          "its `state_dict`; give a prompt_learner/model.pth.tar-EPOCH") from None
    if others := [key for key in state if key.startswith("meta_net")]:
        raise PredictionError(f"{path} is CoCoOp's ({others[0]}): its contexts alone are not what "
                              "it predicts with; checkpoints with `ctx` alone can be imported")
    return context


def around(context, encoder, class_names, logit_scale, position="end"):
    """Return `CoOp` with one run, an imported context [M, D] or [C, M, D], around class names.

    position: of the class name in the prompt. Raises `PromptError` for class-specific contexts of
    another number of classes, `PredictionError` for another text tower's.
    """
    if context.shape[-1] != encoder.width:
        raise PredictionError(f"the context's vectors have size {context.shape[-1]}, those of the "
                              f"text tower {encoder.width}; set the backbone in params.yaml that "
                              "it was trained with")
    variant = ContextParams(n_ctx=context.shape[-2], class_specific=context.ndim == 3,
                            position=position)
    return CoOp(encoder, class_names, variant, logit_scale, contexts=context[None])


def provenance(path):
    """Return the record of a file that something was made from."""
    return {"file": path.name, "sha256": file_sha256(path)}
