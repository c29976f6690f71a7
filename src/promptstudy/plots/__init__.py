"""Figures of the notebooks and the report; functions that draw return a matplotlib figure."""
