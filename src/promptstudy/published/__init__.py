"""What the papers print: their numbers as data, and ours beside them.

`numbers.csv` has one row per number, `datasets.csv` the test sets and prompts that they belong to,
`sources.csv` where those were read that are not from a paper itself. Nothing may be compared with
a number that is not there.
"""
