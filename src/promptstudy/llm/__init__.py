"""Class descriptions by a large language model: queries, asking, parsing, corpora.

Asking (`ask`) costs time or money and writes raw replies to a log; everything after that is a pure
function of the log: parsing (`parse`) and the descriptions of a dataset (`descriptions`).
"""
