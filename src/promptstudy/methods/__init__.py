"""One module a method: its learnable parameters, its loss, its prediction."""
