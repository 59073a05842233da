"""Trained models as files that JAX alone can run."""
