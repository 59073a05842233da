"""Uses of a trained model: queries, imputation, codes and rows."""
