"""Trained models as folders that others load: parameters, configuration, model card."""
