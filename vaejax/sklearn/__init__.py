"""Estimators of scikit-learn: holes filled, rows encoded, labels told from few."""

from vaejax.sklearn.classifier import VAEClassifier
from vaejax.sklearn.imputer import VAEImputer
from vaejax.sklearn.transformer import VAETransformer

__all__ = ["VAEClassifier", "VAEImputer", "VAETransformer"]
