"""Models that learn from few labels and many examples without."""

import dataclasses
from functools import partial

from vaejax import objectives
from vaejax.configs import Data, Labels, Latents, Network, Training
from vaejax.data.labels import keep_labels, labelled_order, labelled_rows
from vaejax.errors import require
from vaejax.experiment import Experiment, Metric
from vaejax.metrics import classification, marginal_elbo
from vaejax.models import Classifier, SemiSupervisedVAE
from vaejax.objectives.semisupervised import Estimator
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.signature import preset

__all__ = ["m2"]


@preset(tiny={"labels": 20})
def m2(
    *,
    data: Data = Data(),
    labels: Labels = Labels(),
    network: Network = Network(hidden=(500,), activation="softplus"),
    latent: Latents = Latents(50),
    alpha: float = 0.1,
    estimator: Estimator = "enumerate",
    label_temperature: float = 0.5,
    training: Training = Training(epochs=60, batch_size=50, learning_rate=3e-4),
) -> Experiment:
    """The semi-supervised VAE, which learns labels from few [Kingma et al. 2014, M2].

    Labels are latent where none is given: summed over, or drawn [Jang et al. 2017].
    On `draws:RUN` of a trained VAE it is M1 + M2.

    Args:
      alpha: weight of the classifier's loss on labels: a labelled row has it times
        the number of all examples by that of labelled ones.
      estimator: enumerate, the exact sum over labels; gumbel, one draw.
      label_temperature: of the relaxation that gives that draw a gradient.
    """
    require(alpha >= 0, "alpha", alpha, "at least 0")
    require(label_temperature > 0, "label_temperature", label_temperature, "above 0")
    view = a.open_data(data, network, partly=True)
    a.require_complete(view)
    condition = a.label(view.dataset)
    seed = training.seed if labels.labels_by_seed else labels.labels_seed
    dataset = keep_labels(view.dataset, labels.labels, seed)
    view = view._replace(dataset=dataset)
    share = labels.labelled_share
    rows = labelled_rows(dataset, training.batch_size, share)
    vae = a.vae_model(
        build_bodies(network, dataset), latent, view, condition, a.reader_of(view)
    )
    body = build_bodies(network, dataset).encoder
    model = SemiSupervisedVAE(
        encoder=vae.encoder,
        decoder=vae.decoder,
        prior=vae.prior,
        classifier=Classifier(body, condition.classes),
    )
    size = dataset.spec.sizes["train"]
    known = size - dataset.spec.unlabelled
    objective = partial(
        objectives.semi_supervised,
        auxiliary=alpha * size / known,
        estimator=estimator,
        temperature=label_temperature,
    )
    metrics = a.latent_metrics(latent.size, view)

    def all_metrics(samples: int) -> dict[str, Metric]:
        labelled = {"labels": classification(), "marginal": marginal_elbo()}
        return {**labelled, **metrics(samples)}

    made = a.one_player(
        model,
        objective,
        view,
        training,
        all_metrics,
        selection=lambda values: -values["marginal_elbo"],
    )
    line = f"{known:,} of {size:,} training examples have a label, {rows} in each batch"
    return dataclasses.replace(
        made,
        order=partial(labelled_order, dataset=dataset, share=share),
        notes=(*made.notes, line),
    )
