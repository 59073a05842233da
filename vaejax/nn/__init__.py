"""Layers and networks: shapes, and nothing of probability."""
