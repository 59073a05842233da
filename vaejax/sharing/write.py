"""Writing a shared folder: what others need of a run, and nothing of its user."""

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.reports.page import settings_of_card
from vaejax.runtime.environment import versions
from vaejax.runtime.storage import check_new_folder, is_remote, whole_folder
from vaejax.sharing import hub
from vaejax.sharing.manifest import (
    CARD,
    CONFIG,
    NAME,
    PARAMETERS,
    listed_as,
    manifest_json,
    manifest_of,
    refuse_shared,
)
from vaejax.sharing.privacy import check_private, public_name, public_record
from vaejax.sharing.readme import Shown, readme
from vaejax.sharing.tensors import write_tensors
from vaejax.training.card import card_of
from vaejax.training.config import config_of
from vaejax.training.facts import Facts, gather_facts
from vaejax.training.workdir import load, read_config, workdir_of, write_json

PICTURES = "pictures"


def share(workdir: Path, out: Path, pictures: bool, license: str, push: str) -> None:
    """Shares a run, says what was written, and pushes it where that is asked for."""
    repository = hub.check_push(push) if push else None
    write_shared(workdir, out, pictures, license, str(repository or ""))
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(path)
    print(f"{NAME} has SHA-256 {listed_as(out / NAME).sha256}")
    if repository is not None:
        print(f"pushed to {hub.push_folder(out, repository)}")
    else:
        print(f"to publish it: hf upload OWNER/NAME {out}")


def write_shared(
    workdir: Path,
    out: Path,
    pictures: bool = True,
    license: str = "",
    address: str = "",
) -> None:
    """Writes a folder that `vaejax.load` reads on another machine, without the data.

    Args:
      workdir: a run.
      out: a folder that is empty or not there.
      pictures: whether to draw pictures, which show examples of the data.
      license: of the model, for its card.
      address: of the hub where it will be, for its card.

    Raises:
      InputError: no run, or none that can be loaded; the folder is not empty; a name of
        the data tells a path of this machine.
    """
    check_out_folder(out)
    workdir = workdir_of(workdir)
    refuse_shared(workdir, "copy its folder instead")
    experiment, state = load(workdir)
    facts = gather_facts(workdir)
    named = named_for_others(experiment)
    with whole_folder(out) as made:
        write_tensors(state, made / PARAMETERS)
        config, card = public_records(workdir, experiment, facts)
        write_json(made / CONFIG, config)
        write_json(made / CARD, card)
        shown = list(drawn(named, state, workdir, made)) if pictures else []
        text = readme(
            card,
            [setting for setting in settings_of_card(card) if setting.changed],
            named,
            int(state.step),
            shown,
            license,
            address,
        )
        (made / "README.md").write_text(text, "utf-8")
        check_private(made, Path.home(), Path(workdir).absolute())
        manifest = manifest_of(made, versions().get("vaejax", ""), int(state.step))
        write_json(made / NAME, manifest_json(manifest))


def check_out_folder(out: Path) -> None:
    """InputError where the folder cannot be written as a whole."""
    if is_remote(out) or str(out).startswith(("gs:", "s3:")):
        raise InputError(f"--out {out}: give a folder of this machine, and copy it")
    check_new_folder(out)


def named_for_others(experiment: Experiment) -> Experiment:
    """The experiment with its data set called as others may read it."""
    spec = experiment.dataset.spec
    spec = spec._replace(name=public_name(spec.name))
    return dataclasses.replace(
        experiment, dataset=experiment.dataset._replace(spec=spec)
    )


def public_records(
    workdir: Path, experiment: Experiment, facts: Facts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and card without paths."""
    old = read_config(workdir)
    # Of older runs, too, all settings are written, in today's format.
    config = config_of(experiment)
    names = {old["data"]["name"], str(old["arguments"].get("dataset", ""))} - {""}
    return public_record(config, names), public_record(card_of(facts), names)


def drawn(
    experiment: Experiment, state: TrainState, workdir: Path, folder: Path
) -> Iterator[Shown]:
    """Draws the pictures that apply, and yields each once it is written.

    One that cannot be drawn, where the data is not at hand, say, is a warning.
    """
    from vaejax.reports.pictures import drawn_as_png, picture_names

    (folder / PICTURES).mkdir()
    for name in (*picture_names(experiment, state), "curves"):
        picture = drawn_as_png(name, experiment, state, workdir)
        if picture.image:
            file = f"{PICTURES}/{name}.png"
            (folder / file).write_bytes(base64.b64decode(picture.image.content))
            yield Shown(file, name, picture.caption)
