"""From a model's distributions to log-weights, imputations and Markov chains."""
