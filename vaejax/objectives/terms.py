"""Descriptions of the terms of objectives, in the order in which they are shown.

A metric of the same name describes its own number.
"""

from collections.abc import Mapping

from vaejax.experiment import Quantity

WEIGHT = "weight"

TERMS: Mapping[str, Quantity] = {
    "loss": Quantity("what the player minimizes", "nats", in_line=True),
    "elbo": Quantity("evidence lower bound", "nats", in_line=True),
    "bound": Quantity("importance-weighted bound", "nats", in_line=True),
    "distortion": Quantity("-log p(x | z)", "nats", in_line=True),
    "rate": Quantity("weighted KL term", "nats", in_line=True),
    "kl": Quantity("KL(q(z | x) || p(z))", "nats", in_line=True),
    "kl_z*": Quantity("the block's part of the KL", "nats"),
    "kl_c": Quantity("the categories' part of the KL", "nats"),
    "kl_y": Quantity("KL(q(y | x) || p(y)); -log p(y) of labelled rows", "nats"),
    "classification": Quantity("weighted -log q(y | x) of labelled rows", "nats"),
    "mutual_information": Quantity("of x and z, estimated from the batch", "nats"),
    "total_correlation": Quantity("of the latents, estimated", "nats", in_line=True),
    "dimension_wise_kl": Quantity("KL of the latents' marginals to p(z)", "nats"),
    "beta": Quantity("weight of the KL term", WEIGHT, in_line=True),
    "balance": Quantity("whether KL terms of blocks are balanced"),
    "sigma": Quantity("standard deviation of the likelihood", "units of x"),
    "implied_sigma": Quantity("sigma that beta implies", "units of x", in_line=True),
    "effective_beta": Quantity("beta in units of sigma^2", WEIGHT, in_line=True),
    "velocity_error": Quantity(
        "squared error of the velocity, mean over entries", "", in_line=True
    ),
    "mmd": Quantity("squared discrepancy of q(z) and p(z), unbiased", "", True),
    "target": Quantity("KL that is held", "nats"),
    "target_z": Quantity("KL of continuous latents that is held", "nats"),
    "target_c": Quantity("KL of categories that is held", "nats"),
    "gamma": Quantity("weight of the content", WEIGHT),
    "adversarial": Quantity("weight of the adversarial term", WEIGHT),
    "gsnn": Quantity("-log p(x | z) by a draw of the prior", "nats"),
    "penalty": Quantity("penalty beside the terms above, weighted", "nats"),
    "r1": Quantity("penalty of the critic's slope at data", "nats"),
    "loss_real": Quantity("the critic's loss of data", "nats"),
    "loss_fake": Quantity("the critic's loss of fakes", "nats"),
    "fool": Quantity("loss of fakes that the critic tells", "nats"),
    "confuse": Quantity("loss of data that the critic tells", "nats"),
    "content": Quantity("distortion in features", "nats"),
    "style": Quantity("adversarial term of the decoder", "nats"),
    "dissimilarity": Quantity("1 - similarity of images, weighted", "nats", True),
    "similarity": Quantity("MS-SSIM of reconstructions"),
    "mean_matching": Quantity("distance of mean features", "nats"),
    "class_matching": Quantity("distance of mean features of classes", "nats"),
    "gap": Quantity("mean score of data less that of fakes", "score", in_line=True),
    "accuracy": Quantity("share of right answers", "share", in_line=True),
    "commitment": Quantity("loss that keeps the encoder near its codes", "nats"),
    "codebook": Quantity("loss that draws codes to the encoder", "nats"),
    "entropy": Quantity("loss of unclear and of unused choices of codes", "nats"),
    "usage": Quantity("share of the codes that the batch uses", "share", True),
    "perplexity": Quantity("perplexity of the codes of the batch", "codes", True),
    "usage_z*": Quantity("share of a map's codes that the batch uses", "share", True),
    "perplexity_z*": Quantity("perplexity of a map's codes of the batch", "codes"),
    "bits_per_pixel": Quantity("bits of the latents (their KL) for each pixel"),
    "perceptual": Quantity("weighted distance in features of a frozen network", "nats"),
    "adaptive_weight": Quantity("ratio of slopes that weighs the critic", WEIGHT),
    "revived": Quantity("dead codes that were replaced", "codes"),
    "revived_z*": Quantity("dead codes of a map that were replaced", "codes"),
    "moved": Quantity("share of steps that the player moved in", "share", True),
    "skipped": Quantity("share of steps skipped for a large gradient", "share", True),
    "gradient_norm": Quantity("global norm of the gradient, before it is clipped"),
}
