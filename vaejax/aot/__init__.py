"""Ahead of time: what a training step comes to on devices that are not here."""
