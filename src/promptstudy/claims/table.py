"""The table of all claims, in the order in which the report shows them."""

import pandas as pd

from . import aape, coop, dualpt, dualview, transfer

# how a verdict is reached, for every page that shows verdicts
RULE = ("A claim that one side is better holds if all its differences are larger than the larger "
        "of the two deviations over seeds; it is mixed if some differences are above 0.")


def claims(frame, params):
    """Return a table of the claims that the suite can test: claim, measured, verdict.

    Verdicts are `holds`, `does not hold` or `mixed`; numbers are means over datasets and seeds of
    top-1 accuracy in percent, written as mean ± standard deviation over seeds. Where both sides of
    a comparison have seeds, a difference that is not above the larger deviation is `mixed`. What
    the abstract of a paper does not say itself is marked as inferred.
    """
    modules = [coop, transfer]  # which hold for any suite; a method's, if the suite runs it
    modules += [module for name, module in (("dualpt", dualpt), ("dualview", dualview),
                                            ("aape", aape)) if name in params.methods]
    rows = [row for module in modules for row in module.claims(frame, params)]
    return pd.DataFrame(rows, columns=["claim", "measured", "verdict"])
