"""Claims about several methods, on other datasets and on shifted images."""

from ..params import ORIGINAL
from ..results import METHODS, TRANSFER, main_rows, transfer_runs
from .comparisons import all_ahead, cell, over_runs


def claims(frame, params):
    """Yield each claim, what was measured, and the verdict."""
    yield from cross_dataset(frame, params)
    yield from domain(frame, params)


def cross_dataset(frame, params):
    """Claims about other datasets than the one that was trained on."""
    runs = transfer_runs(main_rows(frame, params), "cross_dataset")
    if "mean" not in runs:
        return
    home, away = (over_runs(runs[column]) for column in (params.transfer.source, "mean"))

    def listing(*methods):
        return "; ".join(f"{title}: " + ", ".join(f"{METHODS[method]} {cell(of.loc[method])}"
                                                  for method in methods)
                         for title, of in ((TRANSFER["cross_dataset"], away), ("at home", home)))

    yield ("CoOp is worse than zero-shot CLIP on other datasets than its own (CoCoOp's critique)",
           listing("zero_shot", "coop"), all_ahead([(away.loc["zero_shot"], away.loc["coop"])]))
    if params.dualview:
        yield ("The dual-view method beats CoOp on other datasets than its own (inferred)",
               listing("dualview", "coop"), all_ahead([(away.loc["dualview"], away.loc["coop"])]))


def domain(frame, params):
    """Claims about shifted images of the classes that were trained on."""
    runs = transfer_runs(main_rows(frame, params), "domain")
    if "mean" not in runs:
        return
    shifted = {column: over_runs(runs[column]) for column in runs}
    mean = shifted["mean"]

    def listing(*methods):
        return f"{TRANSFER['domain']}: " + ", ".join(
            f"{METHODS[method]} {cell(mean.loc[method])}" for method in methods)

    yield ("CoOp is more robust to shifts of the images than zero-shot CLIP",
           listing("zero_shot", "coop") + " (" + ", ".join(
               f"{name} {of.loc['coop', 'mean'] - of.loc['zero_shot', 'mean']:+.1f}"
               for name, of in shifted.items() if name in params.transfer.domain) + ")",
           all_ahead([(mean.loc["coop"], mean.loc["zero_shot"])]))
    yield ("CoOp is more robust to shifts than the linear probe",
           listing("coop", "linear_probe"),
           all_ahead([(mean.loc["coop"], mean.loc["linear_probe"])]))
    before = ORIGINAL if ORIGINAL in runs else params.transfer.source
    kept = over_runs(100 * runs["mean"] / runs[before])
    yield ("Shifts cost the linear probe a larger share of its accuracy than CoOp",
           "percent left: " + ", ".join(f"{METHODS[method]} {cell(kept.loc[method])}"
                                        for method in ("zero_shot", "coop", "linear_probe")),
           all_ahead([(kept.loc["coop"], kept.loc["linear_probe"])]))
    if params.kgcoop:
        yield ("KgCoOp is more robust to shifts than CoOp",
               listing("kgcoop", "coop"), all_ahead([(mean.loc["kgcoop"], mean.loc["coop"])]))
    if params.aape:
        yield ("AAPE is more robust to shifts than zero-shot CLIP and CoOp",
               listing("aape", "zero_shot", "coop"),
               all_ahead([(mean.loc["aape"], mean.loc[other]) for other in ("zero_shot", "coop")]))
    short, long = params.coop.base_to_new, params.coop.few_shot
    if short.n_ctx < long.n_ctx:
        of_coop = over_runs(transfer_runs(frame, "domain").loc["coop"]["mean"], by="variant")
        pair = [of_coop.loc[context.label] for context in (short, long)]
        yield ("CoOp with a shorter context is more robust to shifts",
               f"{TRANSFER['domain']}: M={short.n_ctx} {cell(pair[0])}, M={long.n_ctx} "
               f"{cell(pair[1])}", all_ahead([pair]))
