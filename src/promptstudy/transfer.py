"""Transfer of learned prompts: protocols `cross_dataset` and `domain`.

Prompts trained once, on all classes of one dataset, are tested on other datasets with their class
names, or on shifted images of the same classes. Rows have the source as `dataset` and the tested
images as `subset`, including the source's own.
"""

from .datasets.packs import FeaturePack
from .datasets.splits import shift_of
from .evaluation import PROBE, Evaluation
from .methods import linear_probe, registry
from .params import ORIGINAL, Setting
from .plans import transferred


def cross_dataset(source: Evaluation, targets: dict[str, Evaluation]) -> None:
    """Add the rows of `cross_dataset` to those of the `Evaluation` of the source.

    targets: {name: Evaluation} of all datasets, each of which has its own hand-crafted prompt.
    """
    for name, target in targets.items():
        _hand_crafted(source, "cross_dataset", target, {name: slice(None)})
        for method in source.params.methods:
            setting = transferred(source.params, method)
            _learned(source, "cross_dataset", method, setting, target, {name: slice(None)})


def domain(source: Evaluation, packs: dict[str, FeaturePack]) -> None:
    """Add the rows of `domain` to those of the `Evaluation` of the source.

    packs: {name: FeaturePack} of the shifted versions; if one lacks some of the source's classes,
    predictions are among the classes it has. Besides what `cross_dataset` tests, this tests the
    linear probes and each method's few-shot variant, which were trained on the source anyway. The
    images from which shifts were made are tested separately too, so that like is compared with
    like.
    """
    shots = source.params.transfer.shots
    targets = [(source, {source.name: slice(None)} | _originals(source, packs))]
    targets += [(Evaluation(source.params, pack, source.backbone, source.encoder, source),
                 {name: slice(None)}) for name, pack in packs.items()]
    for target, parts in targets:
        _hand_crafted(source, "domain", target, parts)
        _linear_probe(source, "domain", target, parts)
        for method, block in source.params.methods.items():
            settings = {block.base_to_new.label: transferred(source.params, method)}
            if block.few_shot:
                few_shot = Setting("few_shot", block.few_shot, shots)
                settings.setdefault(block.few_shot.label, few_shot)
            for setting in settings.values():
                _learned(source, "domain", method, setting, target, parts)


def _originals(source, packs):
    """Return {ORIGINAL: indices of the shifted images in the source's test images}."""
    shifts = [pack for name, pack in packs.items() if shift_of(source.params, name)]
    if not shifts:
        return {}
    place = {path: index for index, path in enumerate(source.pack.test.paths)}
    return {ORIGINAL: [place[path] for path in shifts[0].test.paths]}  # all shift the same images


def _hand_crafted(source, protocol, target, parts):
    for method, variant, predicted in target.hand_crafted_predictions():
        source.add_elsewhere(protocol, method, variant, 0, 0, target, predicted, parts)


def _linear_probe(source, protocol, target, parts):
    shots = source.params.transfer.shots
    labels = slice(None) if target is source else target.source_labels
    for seed in source.params.seeds:
        weight, bias = source.probe(shots, seed)
        predicted = linear_probe.predict(target.pack.test.features, weight[labels], bias[labels])
        source.add_elsewhere(protocol, "linear_probe", PROBE, shots, seed, target, predicted, parts)


def _learned(source, protocol, method, setting, target, parts):
    """Add a row for every run and every variant that the training yields."""
    model = source.trained(method, setting, onto=target)
    found = registry.predictions(source.params, method, setting, model, target.inputs(model))
    for variant, runs in found.items():
        for seed, predicted in zip(source.params.seeds, runs, strict=True):
            source.add_elsewhere(protocol, method, variant, setting.shots, seed, target, predicted,
                                 parts)
