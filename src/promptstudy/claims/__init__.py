"""The papers' claims, decided from the results table."""
