"""One module per method: its learnable parameters, its loss, its prediction."""
