"""Faults of params that involve several keys, and those of names and templates."""

from ..names import key_faults, template_fault
from .data import ORIGINAL
from .reading import nearest


def cross_check(params):
    """Return every such fault, a list of lines that begin with the key."""
    faults = key_faults({"datasets": params.datasets, "captioned": params.captioned,
                         "transfer.domain": params.transfer.domain})
    for method, block in params.methods.items():
        faults += _of_method(params, method, block)
    faults += _of_captioned(params)
    faults += _of_transfer(params)
    faults += _unknown(params, "llm.corpora", params.llm.corpora)
    faults += _of_datasets(params)
    if len(set(params.seeds)) != len(params.seeds):
        faults.append(f"seeds: each may occur only once (found {params.seeds})")
    return faults


def _unknown(params, key, names):
    """A fault for each of the names under a key that is not a dataset."""
    return [f"{key}: {name!r} is not a dataset" + nearest(name, params.datasets)
            for name in names if name not in params.datasets]


def _of_method(params, method, block):
    faults = [fault for key, names in block.named_datasets.items()
              for fault in _unknown(params, f"{method}.{key}", names)]
    other_shots = {*block.ablation_shots} - {params.base_to_new_shots}
    if block.ablation_protocol == "base_to_new" and other_shots:
        faults.append(f"{method}.ablation_shots: base-to-new is trained only with "
                      f"base_to_new_shots = {params.base_to_new_shots} "
                      f"(found {block.ablation_shots})")
    few_shot = params.shots if block.few_shot else ()
    needed = {*few_shot, params.base_to_new_shots, *block.ablation_shots, params.transfer.shots}
    for shots in sorted(needed - set(block.schedule.epochs)):
        faults.append(f"{method}.schedule.epochs: no number of epochs for {shots} shots")
    variants = [*filter(None, [getattr(block, block.ablation_protocol)]), *block.ablation_variants]
    for label in sorted({variant.label for variant in variants}):
        if len({variant.model_dump_json() for variant in variants if variant.label == label}) > 1:
            faults.append(f"{method}.ablations: two variants would both be called {label!r} in the "
                          f"results; {block.naming}")
    return faults


def _of_captioned(params):
    faults = [f"captioned.{name}: there is a dataset with that name; rename one"
              for name in params.captioned if name in params.datasets]
    if params.captioned and params.aape is None:
        faults.append("captioned: only AAPE learns from captions; give params.yaml a block aape")
    elif params.captioned and 1 not in params.aape.schedule.epochs:
        faults.append("aape.schedule.epochs: no number of epochs for 1 shot, which captioned needs")
    return faults


def _of_transfer(params):
    transfer, faults = params.transfer, _unknown(params, "transfer.source",
                                                 [params.transfer.source])
    if transfer.shots not in params.shots:
        faults.append("transfer.shots: must be one of shots, for which linear probes are trained "
                      f"(found {transfer.shots})")
    for name in transfer.domain:
        if name == ORIGINAL or name in {**params.datasets, **params.captioned}:
            faults.append(f"transfer.domain.{name}: other test images have that name; "
                          "rename it")
    return faults


def _of_datasets(params):
    faults = []
    for name, dataset in params.datasets.items():
        if fault := template_fault(dataset.template):
            faults.append(f"datasets.{name}.template: {fault}")
    for name, dataset in params.every_dataset.items():
        kinds = {"images (with or without a split)": dataset.images, "a layout": dataset.layout}
        if name in params.transfer.domain:
            kinds["a shift"] = dataset.shift
        if sum(map(bool, kinds.values())) != 1 or dataset.split and not dataset.images:
            faults.append(f"{params.key_of(name)}: needs exactly one: {', or '.join(kinds)}")
    return faults
