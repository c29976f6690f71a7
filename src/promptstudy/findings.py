"""What was found, in sentences that are made from the results and so cannot contradict them."""

import pandas as pd

from .cells import AVERAGE, Cell, base_to_new_cells, datasets_of, few_shot_cells, transfer_cells
from .claims.table import VERDICTS
from .params import Params
from .params.methods import BLOCKS
from .results import METHODS, TRANSFER

# of a verdict, of one claim and of several
SAID = {"holds": ("holds", "hold"), "does not hold": ("does not hold", "do not hold"),
        "mixed": ("is mixed", "are mixed"), "not decided": ("is not decided", "are not decided")}


def findings(main: pd.DataFrame, params: Params, verdicts: pd.DataFrame) -> list[str]:
    """Return the sentences, as a list.

    main: the results of every method's main variant (`results.main_rows`); verdicts: the claims'
    table. A finding is left out if the suite has not run what it needs.
    """
    found = [_few_shot(main), *_base_to_new(main), *_elsewhere(main, params), _claims(verdicts)]
    return [sentence for sentence in found if sentence]


def _few_shot(main):
    cells, over = _first(main, "few_shot", few_shot_cells)
    most = max(cells.columns)
    after, before = _learned(cells[most]), cells.at["zero_shot", 0]
    if not after:
        return ""
    best, cell = _best(after)
    text = (f"With {most} labelled images per class, {METHODS[best]} is the most accurate of the "
            f"{len(after)} methods that learn a prompt: {cell} %{over}; zero-shot CLIP reaches "
            f"{before} %.")
    if "linear_probe" in cells.index:
        probe = cells.at["linear_probe", most]
        text += f" A linear probe, which learns no prompt, is {_beside(probe, cell)} ({probe} %)."
    return text


def _base_to_new(main):
    cells, over = _first(main, "base_to_new", base_to_new_cells)
    after = _learned(cells["new"])
    if not after:
        return
    yield (f"On new classes, of which training has seen nothing, "
           f"{_above(after, cells.at['zero_shot', 'new'], over)}")
    h = _learned(cells["H"])
    best, cell = _best(h)
    yield (f"{METHODS[best]} has the highest harmonic mean of base and new accuracy: H = {cell} %; "
           f"{_listing({name: one for name, one in h.items() if name != best})}, zero-shot CLIP "
           f"{cells.at['zero_shot', 'H']}.")


def _elsewhere(main, params):
    """Findings on other datasets and on shifted images than those of the transfer's source."""
    where = {"cross_dataset": f"On other datasets than {params.transfer.source}, where prompts "
                              "were learned,",
             "domain": f"On shifted images of {params.transfer.source},"}
    for protocol in TRANSFER:
        if not (main["protocol"] == protocol).any():
            continue
        cells = transfer_cells(main, protocol).droplevel("variant")
        if "mean" not in cells or not _learned(cells["mean"]):
            continue
        text = f"{where[protocol]} " + _above(_learned(cells["mean"]),
                                              cells.at["zero_shot", "mean"], "")
        probe = cells["mean"].get("linear_probe")
        yield text + (f" The linear probe reaches {probe} %." if isinstance(probe, Cell) else "")


def _claims(verdicts):
    if not len(verdicts):
        return ""
    counts = verdicts["verdict"].value_counts().to_dict()
    *first, last = (f"{counts.get(verdict, 0)} {SAID[verdict][counts.get(verdict, 0) != 1]}"
                    for verdict in VERDICTS)
    return (f"Of {len(verdicts)} claims of the papers that can be tested here, "
            f"{', '.join(first)} and {last}.")


def _first(main, protocol, cells_of):
    """The cells of a protocol's average (or only dataset), by method, and what they are over."""
    dataset = datasets_of(main, protocol)[0]
    count = main[main["protocol"] == protocol]["dataset"].nunique()
    over = f" on average over {count} datasets" if dataset == AVERAGE else f" on {dataset}"
    return cells_of(main, dataset).droplevel("variant"), over


def _learned(column):
    """The cells of the methods that learn a prompt, {method: cell}."""
    return {name: cell for name, cell in column.items()
            if name in BLOCKS and isinstance(cell, Cell)}


def _best(cells):
    return max(cells.items(), key=lambda item: item[1].mean)


def _above(cells, before, over):
    """Which methods are above zero-shot CLIP, and the best of all."""
    above = [METHODS[name] for name, cell in cells.items() if cell.mean > before.mean]
    which = ("none" if not above else "all" if len(above) == len(cells) else
             f"{len(above)} ({', '.join(above)})")
    best, cell = _best(cells)
    return (f"{which} of the {len(cells)} methods {'is' if len(above) < 2 else 'are'} above "
            f"zero-shot CLIP ({before} %{over}); {METHODS[best]} is the best with {cell} %.")


def _beside(ours, theirs):
    """How one cell compares with another; what is within the larger deviation is level."""
    gap = ours.mean - theirs.mean
    if abs(gap) <= max(ours.std or 0, theirs.std or 0):
        return "about as accurate"
    return f"{abs(gap):.1f} points {'more' if gap > 0 else 'less'} accurate"


def _listing(cells):
    return ", ".join(f"{METHODS[name]} {cell}" for name, cell in
                     sorted(cells.items(), key=lambda item: -item[1].mean))
