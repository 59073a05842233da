"""Which verb draws latents where a part of x is not observed."""

import flax.linen as nn

from vaejax.models.completion import ArbitraryCompletion, Completion


def proposal_of(model: nn.Module) -> str:
    """`prior` of models that complete x by a prior given what is seen: their posterior
    sees all of x; else `posterior`.
    """
    completes = isinstance(model, Completion | ArbitraryCompletion)
    return "prior" if completes else "posterior"
