"""The commands of `python -m promptstudy`, one module each (see `__main__`)."""
