"""Measurements of trained latent models that take longer than an evaluation."""
