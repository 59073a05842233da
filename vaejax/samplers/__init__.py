"""Densities of latents fitted to a trained model's encodings, to draw samples from."""
