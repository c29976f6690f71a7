"""Captions and answers about images by a frozen language model: LiMBeR, and AAPE on top of it."""
