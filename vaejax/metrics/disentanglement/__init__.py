"""Metrics of codes whose factors of variation are known, and of codes alone.

Codes are `[N, latents]`, means or samples of q(z | x): whoever calls says which.
Factors are whole numbers `[N, F]`. Definitions are those of disentanglement_lib
[Locatello et al. 2019], whose numbers they give on the same codes.
"""
