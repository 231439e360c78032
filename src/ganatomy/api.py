"""The functions of the package: what the commands do, from Python, with options named as on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, discover, names_of_images
from ganatomy.data.listing import Dataset, listed
from ganatomy.data.memory import hand_over, held_at, opened_values
from ganatomy.data.splits import Fold
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import Evaluation
from ganatomy.evaluation.evaluate import evaluate as evaluate_run
from ganatomy.game import Method, MethodConfig, RolesConfig, refusal
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.apply import Format
from ganatomy.inference.applying import Applied, apply_run
from ganatomy.inference.model import Model, Which, build, load
from ganatomy.inference.runfile import TrainConfig, is_run_of, parse_run, read_run
from ganatomy.inference.sampling import Format as SampleFormat
from ganatomy.inference.sampling import write_samples
from ganatomy.reports.terminal import chosen
from ganatomy.roles.options import check_role_name
from ganatomy.studies.augmentation import STEPS
from ganatomy.studies.downstream import FOLDS, Downstream
from ganatomy.studies.downstream import downstream as downstream_of
from ganatomy.studies.plan import of_run
from ganatomy.studies.study import Study
from ganatomy.studies.study import study as study_arms
from ganatomy.training import run as training
from ganatomy.training.series import fold_of

B = TypeVar("B", bound=BaseModel)
Named = str | System | type[Method]
"""A system: its slug, ``file.py:Class``, ``package.module:Class``, a name that a package has registered, or a class."""
Run = str | Path | Model
"""A trained run: its folder, or the model that was loaded from it."""

TAKEN = frozenset({*DataConfig.model_fields, *TrainConfig.model_fields, "fold", "folds", "secret"})
"""Names of the options that every system has; they cannot be names of roles."""


ARGUMENTS = ("out", "preset", "baseline", "config", "resume", "show", "secret", "system", "device", "against", "seeds")
"""Arguments of functions that are no options of a system, which a misspelt option may mean, too."""


def list_systems(pattern: str | None = None, state: Literal["ready", "planned"] | None = None) -> list[System]:
    """Return the systems of the catalogue in the survey's order.

    Args:
        pattern: part of a name, section or modality, such as ``denois``, or a pattern with wildcards; None means all.
        state: only systems that can be used (``ready``), or those that cannot yet (``planned``).
    """
    found = list(catalogue.SYSTEMS) if pattern is None else catalogue.match(pattern)
    return [system for system in found if state in (None, system.state)]


def dataset(data: Any, system: Named | None = None, *, preset: str = "paper", seed: int = 0, **options: Any) -> Dataset:
    """Return what is understood of a data set, before anything is trained; `print` shows it.

    Args:
        data: folder, file, manifest or cases in memory, as for `train`.
        system: system to whose roles the images are assigned, as `train` would; None lists the images as they are
            found, or by ``roles`` or ``series``.
        preset: named configuration of the system.
        seed: seed by which subjects are drawn for testing and validation.
        options: options of the data, and of the system where one is named.

    Raises:
        UserError: there are no usable cases, or an option does not exist.
    """
    config = data_config(data, options)
    if system is None:
        if unknown := [name for name in options if name not in DataConfig.model_fields]:
            raise UserError(f"option {unknown[0]}: no option of the data; name the system whose option it is")
        return Dataset(config, listed(config), divided=held_at(config.data) is not None)
    found = catalogue.resolve(system)
    method = method_config(found.cls.Config, preset, False, options, config)
    task = build(found, method.model_dump(mode="json")).task
    return Dataset(config, discover(task, config, seed), True, task)


def train(
    system: Named,
    data: Any = None,
    *,
    out: str | Path,
    preset: str = "paper",
    baseline: bool = False,
    config: str | Path | None = None,
    resume: bool = False,
    changed_data: training.ChangedData = "refuse",
    fold: int | None = None,
    folds: int | Literal["sites"] | None = None,
    show: bool | None = None,
    secret: str | Path | None = None,
    **options: Any,
) -> Model:
    """Train a system into a run folder and return it with its best weights.

    ``ganatomy.train("pix2pix", "PAIRS", out="runs/p", source="mr", target="ct", ct={"window": (-160, 240)})``

    Args:
        system: slug of a system; ``file.py:Class`` or ``package.module:Class`` of a method from outside the package; a
            name that an installed package has registered; or the class of a method.
        data: folder, file or manifest of images; what `dataset` returned; or cases in memory: a list, a map-style data
            set of torch or any other object with a length and numbered items, each of them a mapping from roles to
            values (paths, `Image`, arrays, tensors, images of nibabel, SimpleITK or Pillow, words), with ``subject``,
            ``split``, ``label``, ``name``, ``spacing`` and ``unit`` where they are known; or a mapping from roles to
            lists. None means the built-in phantom.
        out: run folder, created if necessary; must not hold a run unless ``resume``.
        preset: named configuration of the system; ``small`` suits a workstation without a GPU.
        baseline: train the same network without the adversary.
        config: ``run.yaml`` of another run, whose options, data and fold are repeated where no others are given.
        resume: continue from the last checkpoint in ``out``; of the options only ``rounds`` and ``cache`` have an
            effect then. Cases in memory have to be given again.
        changed_data: what to do with ``resume`` where the data have changed: ``refuse`` to go on, or ``ignore`` it.
        fold: fold of a cross-validation whose subjects are kept for testing, counted from 0.
        folds: number of folds, or ``sites`` for one fold for each site that the data name.
        show: show progress and messages; None means in notebooks and on terminals.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        options: options of the method, the data and the training, named as on the command line, with underscores; for
            a role that the user names, a mapping from the options of the role to their values.

    Raises:
        UserError: an argument cannot be used; the run folder is then not created, or left unchanged.
    """
    found = catalogue.resolve(system)
    kind = found.cls.Config
    if (fold is None) != (folds is None):
        raise UserError("fold and folds: give both, the number of the fold and that of all folds")
    base, before, usual, dealt = ({}, None, TrainConfig(), None) if config is None else repeated(Path(config), found)
    reading = data_config(before if data is None else data, options)
    if resume and data is not None:
        _check_again(Path(out), reading)
    method = None if resume else method_config(kind, preset, baseline, options, reading, base)
    return training.train(
        found,
        Path(out),
        method,
        reading,
        with_options(usual, _of(TrainConfig, options)),
        resume=resume,
        show=chosen(show),
        secret=_path(secret),
        fold=dealt if fold is None or folds is None or method is None else fold_of(found, method, reading, fold, folds),
        changed_data=changed_data,
    )


def evaluate(
    run: Run,
    data: Any = None,
    *,
    against: Run | Sequence[Run] = (),
    which: Which = "best",
    out: str | Path | None = None,
    ratings: str | Path | None = None,
    names: bool = False,
    device: str = "cpu",
    show: bool | None = None,
    secret: str | Path | None = None,
    system: Named | Sequence[Named] = (),
    keep_images: bool = False,
    **options: Any,
) -> Evaluation:
    """Score a run on test cases, and write metrics.json, cases.csv and report.html.

    Args:
        run: run folder, or the model that was loaded from it.
        data: other images than the run's own, as for `train`; subjects that the run has seen are left out.
        against: runs of the same task to compare with, besides the baselines of the task.
        which: weights to use, ``best`` on the validation data or ``last``.
        out: folder for the results; None means ``RUN/evaluation``.
        ratings: CSV file with readers' ratings.
        names: write the real names of subjects and cases instead of pseudonyms.
        device: device of the networks, such as ``cuda``.
        show: show progress; None means in notebooks and on terminals.
        secret: file with the secret that was used in training; None means the user's own.
        system: systems of the runs, where they are neither built in nor registered.
        keep_images: leave the outputs, and what they are compared with, as files in the folder ``images``.
        options: options of the data and of the judge of the run's task.

    Raises:
        UserError: no case can be judged, an option does not exist, or the results cannot be written.
    """
    folder = _folder(run)
    reading = {name: value for name, value in options.items() if name in DataConfig.model_fields}
    config = None
    if data is not None:
        config = data_config(data, reading)
    elif reading:
        config = data_config(read_run(folder).data, reading)
    several = [against] if isinstance(against, str | Path | Model) else against
    named = [catalogue.resolve(one) for one in ([system] if isinstance(system, str | System | type) else system)]
    loaded = [one.system for one in (run, *several) if isinstance(one, Model) and one.system is not None]
    return evaluate_run(
        folder,
        config,
        [_folder(one) for one in several],
        which,
        _path(out),
        ratings=_path(ratings),
        options={name: value for name, value in options.items() if name not in reading},
        secret=_path(secret),
        names=names,
        device=device,
        show=chosen(show),
        systems=list(dict.fromkeys([*named, *loaded])),
        keep_images=keep_images,
    )


def apply(
    run: Run,
    inputs: str | Path | Mapping[str, str | Path],
    out: str | Path,
    *,
    roles: Mapping[str, str] | Sequence[str] = (),
    series: Mapping[str, str] | Sequence[str] = (),
    frames: Sequence[str] = (),
    resample_to: str | None = None,
    ensemble: Sequence[Run] = (),
    system: Named | None = None,
    ability: str | None = None,
    which: Which = "best",
    device: str = "auto",
    format: Format | None = None,
    seed: int = 0,
    overwrite: bool = False,
    deidentify: bool = False,
    secret: str | Path | None = None,
    uneven: bool = False,
    **options: Any,
) -> Applied:
    """Apply a run to files, and write an output in their format and a note for each case.

    For values in memory, call the model: ``ganatomy.load(RUN)(image)``.

    Args:
        run: run folder, or the model that was loaded from it.
        inputs: file, folder or CSV manifest; or role to path for the inputs of one case.
        out: file, or folder of a DICOM series or of an output per case.
        roles: role to pattern of file names in a folder, for each input.
        series: role to pattern of descriptions of DICOM series, for each input.
        frames: time frames of inputs over time: ``all``, numbers, or ``NAME=NUMBER``.
        resample_to: role to whose grid the other inputs are resampled.
        ensemble: more runs of the same system, whose images or probabilities are averaged with those of ``run``.
        system: system of the run, where it is neither built in nor registered.
        ability: ability to use; None means the first.
        which: weights to use, ``best`` on the validation data or ``last``.
        device: device of the networks: cpu, cuda, or auto.
        format: format of the outputs; None means that of the suffix of ``out``, else that of the input.
        seed: seed of random draws, for methods that have any.
        overwrite: replace earlier results.
        deidentify: write pseudonyms in the place of identities.
        secret: file with the secret of the pseudonyms; None means the user's own.
        uneven: accept DICOM series with missing or duplicate slices.
        options: what files mean that state less (``slope``, ``intercept``, ``unit``, ``pixel_mm``, ``backdrop``,
            ``nan``, ...), and options of the system.

    Raises:
        UserError: no case can be used, or an argument does not fit.
    """
    called = {
        "backdrop" if one.name == "background" else one.name: one.name for one in dataclasses.fields(RasterMeaning)
    }
    stated = {called[name]: value for name, value in options.items() if name in called}
    texts = [f"{name}={path}" for name, path in inputs.items()] if isinstance(inputs, Mapping) else [str(inputs)]
    return apply_run(
        _folder(run),
        texts,
        Path(out),
        roles=_patterns(roles),
        series=_patterns(series),
        frames=tuple(map(str, frames)),
        resample_to=resample_to,
        ensemble=[_folder(one) for one in ensemble],
        system=_system(run, system),
        ability=ability,
        which=which,
        device=device,
        format=format,
        seed=seed,
        overwrite=overwrite,
        deidentify=deidentify,
        secret=_path(secret),
        uneven=uneven,
        meaning=RasterMeaning(**stated),
        options={name: value for name, value in options.items() if name not in called},
    )


def sample(
    run: Run,
    out: str | Path,
    n: int = 16,
    *,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    ability: str | None = None,
    which: Which = "best",
    format: SampleFormat | None = None,
    overwrite: bool = False,
    device: str = "auto",
    system: Named | None = None,
    **options: Any,
) -> list[Path]:
    """Write synthetic samples of a run whose system generates from noise, with samples.csv and synthetic.json.

    Args:
        run: run folder, or the model that was loaded from it.
        out: folder for the files.
        n: number of samples.
        seed: seed of the first sample; each further one has the next seed.
        given: role to value of conditions that samples are made for, such as poses (n, 4, 4) or the path of their file.
        ability: ability to use; None means the first that needs nothing else.
        which: weights to use, ``best`` on the validation data or ``last``.
        format: format of the images; None means PNG for 8-bit pictures, else NIfTI.
        overwrite: replace the files of an earlier call.
        device: device of the networks: cpu, cuda, or auto.
        system: system of the run, where it is neither built in nor registered.
        options: options of the system.

    Returns:
        Paths of the files.

    Raises:
        UserError: the system needs inputs, an option does not exist, or files exist.
    """
    model = load(_folder(run), which, device, _system(run, system))
    return write_samples(
        model,
        Path(out),
        n,
        seed=seed,
        given=opened_values(given or {}, model.method.task.roles),
        ability=ability,
        options=options,
        which=which,
        format=format,
        overwrite=overwrite,
    )


def study(
    system: Named | Path | Model,
    data: Any = None,
    *,
    out: str | Path,
    preset: str = "paper",
    label_fraction: Sequence[float] = (),
    against: Sequence[str] = (),
    folds: int | None = None,
    seeds: int = 3,
    downstream: bool = False,
    updates: int = STEPS,
    show: bool | None = None,
    secret: str | Path | None = None,
    run_system: Named | None = None,
    retrain: bool = False,
    **options: Any,
) -> Study | Downstream:
    """Train variants of a system under equal conditions, and compare them on the same test subjects.

    Args:
        system: a system; or a run, as its folder or model, whose system, options and data are then used.
        data: images, as for `train`; None means those of the run, or the built-in phantom.
        out: folder of the study; finished runs in it are used again.
        preset: named configuration of all systems.
        label_fraction: shares of the annotated training subjects whose annotations are used; each is an arm.
        against: other systems with the same roles; ``baseline`` is the system without the adversary.
        folds: number of folds of a cross-validation; None means that one part of the subjects is kept for testing.
        seeds: number of seeds with which every arm is trained.
        downstream: test instead whether the images that the system generates help a classifier.
        updates: with ``downstream``, number of updates of each classifier or segmenter.
        show: show progress; None means in notebooks and on terminals.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        run_system: system of a run that is neither built in nor registered.
        retrain: train again what has been trained by other code than the present one, or by code that is not known;
            the old runs are kept beside the new ones.
        options: options of the method, the data and the training; of a run, those of data and training.

    Raises:
        UserError: an argument is invalid, or the folder holds another study, or runs of other code without ``retrain``.
    """
    folder = _folder(system) if isinstance(system, Path | Model) or _is_folder(system) else None
    if folder is not None:
        dealt = folds is not None or downstream
        asked = of_run(
            folder,
            None if run_system is None else catalogue.resolve(run_system),
            folds=dealt,
            secret=_path(secret),
        )
        if unknown := [name for name in options if name not in {*DataConfig.model_fields, *TrainConfig.model_fields}]:
            raise UserError(f"option {unknown[0]}: a study of a run has the options of its method; leave it out")
        found, method, base = asked.system, asked.config, asked.training
        config = data_config(asked.data if data is None else data, options)
    else:
        found = catalogue.resolve(system)  # type: ignore[arg-type]
        config, base = data_config(data, options), TrainConfig()
        method = method_config(found.cls.Config, preset, False, options, config)
    training_options = with_options(base, _of(TrainConfig, options))
    common: dict[str, Any] = {"seeds": seeds, "preset": preset, "secret": _path(secret), "show": chosen(show)}
    common["retrain"] = retrain
    if not downstream:
        return study_arms(
            found, Path(out), method, config, training_options,
            label_fraction=label_fraction, against=against, folds=folds, **common,
        )  # fmt: skip
    if label_fraction or against:
        raise UserError("downstream: it cannot be combined with label_fraction or against; make a study of each")
    return downstream_of(
        found, Path(out), method, config, training_options,
        folds=folds or FOLDS, steps=updates, **common,
    )  # fmt: skip


def data_config(data: Any, options: Mapping[str, Any] = {}) -> DataConfig:
    """Return where the images of a user are and how they are read.

    Args:
        data: path, options of the data, data set, or cases in memory; None means the built-in phantom.
        options: option to value, of which those of the data are used; ``roles`` and ``series`` may be mappings.

    Raises:
        UserError: the data cannot be used, or an option is invalid.
    """
    if isinstance(data, Dataset):
        data = data.config
    if not isinstance(data, DataConfig):
        place = Path(data) if isinstance(data, str | Path) else None if data is None else hand_over(data)
        data = DataConfig(data=place)
    own = _of(DataConfig, options)
    own |= {name: _patterns(own[name]) for name in ("roles", "series") if isinstance(own.get(name), Mapping)}
    found: DataConfig = with_options(data, own)
    if held_at(found.data) is not None and (found.roles or found.series):
        raise UserError("roles and series: they name images of a folder; items in memory have their roles themselves")
    return found


def method_config(
    kind: type[MethodConfig],
    preset: str,
    baseline: bool,
    options: Mapping[str, Any],
    data: DataConfig,
    base: Mapping[str, Any] = {},
) -> MethodConfig:
    """Return the configuration of a method from all options of a user, of which those of data and training are checked.

    Args:
        kind: class of the configuration.
        preset: name of the preset.
        baseline: whether the adversary is left out.
        options: option to value.
        data: place of the images.
        base: configuration of another run, which overrides the preset.

    Raises:
        UserError: an option or the preset does not exist, or a value is invalid.
    """
    options = {**named_by_data(kind, preset, {**base, **options}, data), **options}
    named = {name: base[name] for name in getattr(kind, "role_fields", ()) if name in base}
    method, _, _ = sorted_options(kind, preset, {**named, **options})
    return configured(kind, preset, baseline, base, method)


def repeated(path: Path, system: System) -> tuple[dict[str, Any], DataConfig, TrainConfig, Fold | None]:
    """Return configuration, data, training and fold of another run; its subjects are named by pseudonym.

    Raises:
        UserError: there is no run file, or it is that of another system.
    """
    if not path.is_file():
        raise UserError(f"--config {path}: no such file; give the run.yaml of a run")
    facts = parse_run(path)
    if not is_run_of(facts, system):
        raise UserError(f"--config {path}: a run of {facts.system}, not of {system.slug}")
    return facts.config, facts.data, facts.training, facts.split.fold


def _check_again(out: Path, data: DataConfig) -> None:
    """Refuse data for a run that is resumed unless they are the cases in memory that it began with.

    Raises:
        UserError: they are others, or no cases in memory.
    """
    if held_at(data.data) is None:
        raise UserError("data: a resumed run keeps its own data; only cases in memory are given again")
    began = read_run(out).data.data
    if began is None or data.data is None or began.name != data.data.name:
        raise UserError(f"{out}: these are not the data that the run began with; give the same cases with equal values")


def _of(kind: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in kind.model_fields}


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text)


def _is_folder(system: Any) -> bool:
    return isinstance(system, str) and Path(system).is_dir()


def _folder(run: Any) -> Path:
    """Return the folder of a run.

    Raises:
        UserError: a model was not loaded from a run.
    """
    if not isinstance(run, Model):
        return Path(run)
    if run.folder is None:
        raise UserError("this model comes from no run; give the folder that training made, or load it from there")
    return run.folder


def _system(run: Any, named: Named | None) -> System | None:
    """Return the system that the user names for a run; that of a loaded model is known."""
    if named is not None:
        return catalogue.resolve(named)
    return run.system if isinstance(run, Model) else None


def _patterns(told: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}={pattern}" for name, pattern in told.items()) if isinstance(told, Mapping) else tuple(told)


def configured(
    kind: type[MethodConfig],
    preset: str,
    baseline: bool,
    base: Mapping[str, Any],
    given: Mapping[str, Any],
) -> MethodConfig:
    """Return the configuration of a method: a preset, overridden by another run and by given values.

    Args:
        kind: class of the configuration.
        preset: name of the preset.
        baseline: whether the adversary is left out.
        base: values of another run, which override the preset; options of roles that are no longer named are dropped.
        given: values that override all others; for a named role, a mapping of its options.

    Raises:
        UserError: the preset is unknown, a role has the name of an option, a value is invalid, or the system has no
            baseline.
    """
    if baseline and not kind.baseline:
        raise UserError(
            "--baseline: this system has none, since nothing is left of it without its adversary; leave it out"
        )
    values = {**base, **(kind.baseline if baseline else {}), **given}
    if issubclass(kind, RolesConfig):
        names = kind.named({**kind.presets.get(preset, {}), **values})
        for name, field in names.items():
            check_role_name(name, field, TAKEN, kind.role_fields[field].noun)
        if "roles" in base and "roles" not in given:
            values["roles"] = {name: options for name, options in base["roles"].items() if name in names}
    return kind.preset(preset, **values)


def named_by_data(
    kind: type[MethodConfig], preset: str, given: Mapping[str, Any], data: DataConfig
) -> dict[str, tuple[str, ...]]:
    """Return names of input roles that the data give, where the user gives none and the preset's are not all there.

    So ``--inputs`` need not repeat the columns of a manifest, or the names in ``--roles`` and ``--series``.

    Args:
        kind: class of the configuration.
        preset: name of the preset.
        given: values of the user or of another run.
        data: place of the images and names of their roles.

    Returns:
        Field of the configuration to the names of its roles, for a field that changes; empty where none does.

    Raises:
        UserError: a manifest cannot be read.
    """
    if not issubclass(kind, RolesConfig):
        return {}
    several = [name for name in kind.role_fields if get_origin(kind.model_fields[name].annotation) is tuple]
    unnamed = [name for name in several if name not in given]
    # Images are opened to tell them from label maps, which takes a moment.
    there = names_of_images(data) if unnamed else []
    names = kind.named({**kind.presets.get(preset, {}), **given})
    for field in unnamed:
        usual = [name for name, one in names.items() if one == field]
        own = tuple(name for name in there if names.get(name, field) == field)
        if own and not set(usual) <= set(own):
            return {field: own}
    return {}


def sorted_options(
    kind: type[MethodConfig], preset: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort options into those of the method and its roles, of the data, and of the training.

    Raises:
        UserError: an option is unknown; the message names the nearest one.
    """
    roles: Collection[str] = ()
    if issubclass(kind, RolesConfig):
        roles = kind.named({**kind.presets.get(preset, {}), **options})
    # Options of a role are given by its name; the option called ``roles`` belongs to the data and names files.
    groups = ({*kind.model_fields, *roles} - {"roles"}, DataConfig.model_fields, TrainConfig.model_fields)
    known = [name for group in groups for name in group]
    for name in options:
        if name not in known:
            mapping = isinstance(options[name], Mapping)
            nearest = get_close_matches(name, known if mapping else [*known, *ARGUMENTS], n=1)
            guess = f"; did you mean {nearest[0]}?" if nearest else ""
            there = f"; the roles are {', '.join(roles)}" if roles and mapping else ""
            raise UserError(f"option {name}: there is none{guess or there}")
    method, reading, training = ({name: options[name] for name in options if name in group} for group in groups)
    return method, reading, training


def with_options(base: B, options: Mapping[str, Any]) -> B:
    """Return a copy of a configuration with other values for some fields.

    Raises:
        UserError: a value is invalid.
    """
    try:
        return type(base).model_validate({**dict(base), **options})
    except ValidationError as error:
        raise refusal(error) from None
