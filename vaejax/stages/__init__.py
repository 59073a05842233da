"""Second stages: data that a trained model encodes, and samples that it decodes."""
