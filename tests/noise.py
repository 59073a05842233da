"""Parameters for tests that no special value of first ones may flatter."""

import jax


def scattered(variables, spread, key):
    """Normal draws of that deviation, in the shape of the variables."""
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))
    noise = [
        spread * jax.random.normal(k, a.shape)
        for k, a in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, noise)
