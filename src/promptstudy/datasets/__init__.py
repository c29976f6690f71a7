"""Which image is which class: splits, few-shot draws, image checks and feature packs."""
