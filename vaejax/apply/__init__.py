"""What a trained model is used for: queries, imputation, codes and rows."""
