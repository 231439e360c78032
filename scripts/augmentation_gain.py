"""Test whether the images of a labelled system help a classifier.

python scripts/augmentation_gain.py RUN --out DIR [--folds 3] [--seeds 5] [--rounds N] [--steps 300]

The system of RUN is trained again in every fold, with the run's options, on that fold's training patients only;
--rounds are the generator's, --steps the classifiers'.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from ganatomy.data.cases import find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import run_facts
from ganatomy.evaluation.evaluate import plain
from ganatomy.images.atomic import write_text
from ganatomy.inference.model import load
from ganatomy.studies.augmentation import STEPS, Gain, Generate, augmentation_gain, transfer
from ganatomy.tasks.synthesis.predictor import image_sampler
from ganatomy.tasks.synthesis.sets import ImageSet, between, real_images
from ganatomy.training.run import train

MOST = 5000
"""Images used at most."""


def run(folder: Path, out: Path, folds: int, seeds: int, rounds: int | None, steps: int) -> Gain:
    """Train and test; results are written to ``out``."""
    model = load(folder)
    predictor, facts = image_sampler(model), run_facts(model)
    if not predictor.labelled:
        raise UserError(f"{folder}: makes no images by label")
    data, task = facts.data, predictor.task
    cases = find_cases(task, data)
    images = real_images(task, Store(task, data.cache_folder).get_all(cases)[0], MOST)
    options = facts.training.model_copy(update={"device": model.device, **({"rounds": rounds} if rounds else {})})
    transfers = []

    def learn(fold: int, training: ImageSet, choosing: ImageSet) -> Generate:
        test = sorted({case.subject for case in cases} - set(training.subjects) - set(choosing.subjects))
        split = {"test_subjects": tuple(test), "val_subjects": tuple(sorted(set(choosing.subjects)))}
        made = out / f"fold{fold}"
        if not (made / "run.yaml").is_file():
            train(facts.system, made, model.method.config, data.model_copy(update=split), options, show=True)
        own = image_sampler(load(made, "last"))

        def generate(labels: torch.Tensor, seed: int) -> torch.Tensor:
            first = seed * MOST
            return between(own.images(range(first, first + len(labels)), labels), own.task)

        held = images.take([i for i, name in enumerate(images.subjects) if name in test])
        transfers.append(transfer(training, held, generate, task.classes, seeds=seeds, steps=steps))
        return generate

    found = augmentation_gain(images, learn, task.classes, folds=folds, seeds=seeds, steps=steps, advance=print)
    results = {
        "verdict": found.words,
        "outcome": found.outcome,
        "classes": task.classes,
        "amounts": found.amounts,
        "arms": {
            name: {"accuracies": arm.accuracies, "sensitivities": arm.sensitivities} for name, arm in found.arms.items()
        },
        "mcnemar": {name: asdict(test) for name, test in found.tests.items()},
        "train on synthetic, test on real": [one.words for one in transfers],
    }
    write_text(out / "augmentation.json", json.dumps(plain(results), indent=1) + "\n")
    print(found.words, *[f"Fold {fold}: {one.words}" for fold, one in enumerate(transfers, start=1)], sep="\n")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    try:
        run(given.run, given.out, given.folds, given.seeds, given.rounds, given.steps)
    except UserError as error:
        parser.error(str(error))
