"""The settings of a training run: strict YAML, every default in one place.

An unknown key is an error that names it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mien.bundles.card_parts import check_task
from mien.bundles.store import bundles
from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.registry import Set, starting_from
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.documents import at_home
from mien.documents.yaml import SCHEMA, read_yaml, take_schema
from mien.errors import DataError, UnknownNameError
from mien.faces.prepare import Pixels
from mien.tasks import TASKS, Kind, Task
from mien.tasks import task as find_task
from mien.text import printable
from mien.train.settings.augmentation import AugmentSettings
from mien.train.settings.card import CardSettings
from mien.train.settings.extended import AnyLoss
from mien.train.settings.features import FeatureSettings
from mien.train.settings.network import OVER_TIME, OWN, NetworkSettings
from mien.train.settings.optimiser import OptimSettings

__all__ = [
    "KNOWN_TASKS",
    "SPEED_KEYS",
    "FitSettings",
    "FoldSettings",
    "Settings",
    "TaskSettings",
    "pixels_of",
    "read_settings",
    "with_absolute_paths",
    "write_settings",
]

KNOWN_TASKS: dict[str, Task] = {**TASKS, AU_BLENDSHAPES.key: AU_BLENDSHAPES}
"""Tasks that settings may call by key alone."""


class _Strict(BaseModel):
    """Refuses unknown keys and numbers that are not finite; cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskSettings(_Strict):
    """A task that mien does not know, spelled out; see `mien.tasks.Task`."""

    key: Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z0-9_-]+)?$")]
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    kind: Kind
    low: float = 0.0
    high: float = 1.0

    @property
    def task(self) -> Task:
        """The task itself."""
        return Task(self.key, self.names, self.kind, self.low, self.high)

    @model_validator(mode="after")
    def _can_be_on_a_card(self) -> "TaskSettings":
        # Now rather than after days of training, when the bundle is written.
        check_task(self.task)
        return self


SPEED_KEYS: Final = ("workers", "save_minutes", "devices", "accelerator")
"""Keys of `FitSettings` that decide how a run is computed, not its result."""


class FitSettings(_Strict):
    """How long, how much at once, on what, and when to stop."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    """passes over the training split"""
    batch: Annotated[int, Field(ge=2, le=65_536)] = 64
    """faces per step, or windows of them, over all devices together"""
    balance: Literal["none", "class", "va", "both"] = "none"
    """how rows are drawn: none, each once; class, by inverse class frequency; va, by inverse
    frequency of the valence-arousal cell; both, the mean of the two"""
    frozen_epochs: Annotated[int, Field(ge=0, le=100_000)] = 0
    """the backbone, with its batch-norm statistics, stays as it is for that many epochs"""
    watch: str = "mean"
    """the score that decides which epoch is best and when to stop: mean over the tasks,
    <family>.<measure>, or a protocol's name"""
    keep: Literal["best", "last"] = "best"
    """what best.pt holds in the end: the epoch with the best score, or the last, so that nothing is
    chosen on split val"""
    patience: Annotated[int, Field(ge=0, le=100_000)] = 0
    """stop after so many epochs without a better score; 0 never stops early"""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """of everything random: the same seed repeats a run"""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """where to compute"""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """how many of them"""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """of numbers in the forward pass"""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """processes that load pictures; 0 loads them in the main process"""
    save_minutes: Annotated[float, Field(gt=0, le=1e6)] = 5.0
    """minutes between checkpoints within an epoch"""
    skip_unreadable: bool = False
    """leave out pictures that cannot be read instead of stopping; they are counted and named"""
    find_points: bool = True
    """look for faces (with mien-face) in pictures that have no five points, so that they are
    aligned as in use"""

    @model_validator(mode="after")
    def _patience_looks_for_the_best(self) -> "FitSettings":
        if self.patience and self.keep == "last":
            raise ValueError(
                "patience: stops at the best epoch, and keep says last; give one of the two"
            )
        return self


class FoldSettings(_Strict):
    """Train and validate on folds of recordings in place of the splits train and val."""

    count: Annotated[int, Field(ge=2, le=1000)]
    """folds, of about as many faces each; a recording is never cut"""
    held_out: Annotated[int, Field(ge=0, le=999)]
    """the fold that is validated, from 0; all others are learned"""

    @model_validator(mode="after")
    def _there_is_such_a_fold(self) -> "FoldSettings":
        if self.held_out >= self.count:
            raise ValueError(
                f"held_out: folds are numbered 0 to {self.count - 1}, got {self.held_out}"
            )
        return self


def _mien_pixels() -> Pixels:
    """Luma at 112 px, framed as FER+ frames faces: what mien-s reads."""
    return Pixels(
        size=112,
        colour="grey",
        alignment="similarity5",
        template=FERPLUS_TEMPLATE,
        mean=(115.0,),
        std=(256.0,),
    )


class Settings(_Strict):
    """Everything that decides a run's result."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """of the bundle"""
    data: Annotated[tuple[Set, ...], Field(min_length=1)]
    """label tables, one after the other"""
    refit: bool = False
    """learn split val like train, and validate nothing: for a number of epochs that was chosen
    before, of which the last is kept"""
    folds: FoldSettings | None = None
    """null for the splits as they are"""
    tasks: tuple[str | TaskSettings, ...] = ()
    """keys, or tasks spelled out; empty = the classes of the one folder in `data`"""
    pixels: Pixels | Literal["timm"] = Field(default_factory=_mien_pixels)
    """how faces are cropped; the word timm stands for size, mean and std of the backbone's trained
    weights, as timm's data config says, and is filled in"""
    features: FeatureSettings | None = None
    """heads read a bundle's cached features in place of pictures; goes with the backbone of that
    name"""
    network: NetworkSettings = NetworkSettings()
    keep_heads: bool = False
    """the heads go on from network.start as well, which must then be a run's best.pt with the same
    tasks; false starts them fresh"""
    losses: dict[str, AnyLoss] = {}
    """by task family; a family left out has the defaults"""
    teachers: tuple[Path, ...] = ()
    """runs or bundles whose averaged scores are distilled"""
    teachers_see: Literal["crop", "picture"] = "crop"
    """crop: the very input that the student sees, augmented as it is, or the same cached features;
    picture: each face once, as it is (bundles must)"""
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    fit: FitSettings = FitSettings()
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _teachers_are_heard(self) -> "Settings":
        distils = any(loss.distill for loss in self.losses.values())
        if bool(self.teachers) != distils:
            raise ValueError("teachers: name them exactly when a loss has `distill`")
        if self.teachers_see == "picture" and self.augment.mixup:
            raise ValueError(
                "teachers_see: teachers that see pictures as they are cannot teach mixed ones; "
                "use crop, or no mixup"
            )
        return self

    @model_validator(mode="after")
    def _a_refit_chooses_nothing(self) -> "Settings":
        if self.refit and self.fit.keep != "last":
            raise ValueError("refit: nothing is left to choose an epoch on; set fit.keep to last")
        if self.refit and self.folds is not None:
            raise ValueError("folds: a refit learns all of them; leave one of the two out")
        return self

    @model_validator(mode="after")
    def _heads_have_a_start(self) -> "Settings":
        start = self.network.start
        if self.keep_heads and not (isinstance(start, Path) and start.suffix == ".pt"):
            raise ValueError(
                "keep_heads: heads go on from a run of the same tasks; name its best.pt in "
                "network.start, or leave keep_heads out"
            )
        return self

    @model_validator(mode="after")
    def _families_are_known(self) -> "Settings":
        families = [task.family for task in self.named_tasks()]
        if len(set(families)) < len(families):
            raise ValueError(f"tasks: one family comes twice: {', '.join(families)}")
        # Without tasks the class folders name the one there is, which is not known yet.
        if not families:
            return self
        sections: dict[str, Mapping[str, object]] = {
            "losses": self.losses,
            "network.heads": self.network.heads,
            "card.supervised_by": self.card.supervised_by,
        }
        for section, by_family in sections.items():
            unknown = sorted(set(by_family) - set(families))
            if unknown:
                raise ValueError(
                    f"{section}: {', '.join(unknown)} is no family of the tasks, "
                    f"which are {', '.join(families)}"
                )
        return self

    @model_validator(mode="after")
    def _timm_knows_its_own(self) -> "Settings":
        if self.pixels == "timm" and self.network.backbone in OWN:
            raise ValueError(
                f"pixels: timm has no data config of {self.network.backbone}, which is mien's; "
                "give size, mean and std"
            )
        return self

    @model_validator(mode="after")
    def _features_take_the_place_of_pictures(self) -> "Settings":
        if (self.features is None) == (self.network.backbone == "features"):
            raise ValueError(
                "network.backbone: the name features and the section `features` go together; "
                "give both or neither"
            )
        if self.features is None:
            return self
        # Defaults spelled out do no harm, and written settings spell out all of them.
        idle = []
        if self.pixels != _mien_pixels():
            idle.append("pixels")
        if self.augment != AugmentSettings():
            idle.append("augment")
        if idle:
            raise ValueError(f"{', '.join(idle)}: of no effect on cached features; leave out")
        if self.fit.frozen_epochs:
            raise ValueError(
                "fit.frozen_epochs: cached features have no backbone to freeze; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _sequence_heads_read_windows(self) -> "Settings":
        heads = self.network.heads
        # Without tasks the class folders name the one there is, whose head may be given.
        families = [task.family for task in self.named_tasks()] or list(heads)
        over_time = []
        for family in families:
            if family in heads and heads[family].kind in OVER_TIME:
                over_time.append(family)
        has_windows = self.features is not None and self.features.window is not None
        if over_time and not has_windows:
            kind = heads[over_time[0]].kind
            raise ValueError(
                f"network.heads: {', '.join(over_time)}: a {kind} head reads windows; "
                "give features.window"
            )
        if has_windows and (not over_time or over_time != families):
            raise ValueError(
                f"features.window: only heads of kind {', '.join(OVER_TIME)} read windows; "
                "give each task one in network.heads, or no window"
            )
        return self

    @model_validator(mode="after")
    def _windows_are_drawn_once_each(self) -> "Settings":
        if self.features is None or self.features.window is None:
            return self
        if self.fit.balance != "none":
            raise ValueError(
                f"fit.balance: {self.fit.balance} draws single faces, and windows hold many; "
                "leave it out"
            )
        if self.teachers and self.teachers_see == "picture":
            raise ValueError(
                "teachers_see: teachers of windows must see the same windows; use crop, "
                "and runs on the same features"
            )
        return self

    @property
    def filled_pixels(self) -> Pixels:
        """How faces are cropped, in a run that has begun: every number is filled in by then."""
        assert isinstance(self.pixels, Pixels)
        return self.pixels

    @property
    def readers(self) -> int:
        """Processes that load inputs; 0 for cached features, which are faster read than sent."""
        return 0 if self.features is not None else self.fit.workers

    def named_tasks(self) -> tuple[Task, ...]:
        """List the tasks that the settings name.

        Returns:
            The tasks in output order; none where the class folders say it.

        Raises:
            UnknownNameError: A key names no task.
        """
        tasks = []
        for spec in self.tasks:
            tasks.append(_known(spec) if isinstance(spec, str) else spec.task)
        return tuple(tasks)


def pixels_of(settings: Settings) -> Pixels:
    """Say which crops a network of these settings reads.

    Args:
        settings: Settings of a run.

    Returns:
        The settings' own crops; for heads on cached features, those of the bundle that made them.

    Raises:
        UnknownNameError: There is no bundle of that name.
        BundleError: The bundle cannot be used, or exposes no features.
    """
    if settings.features is None:
        return settings.filled_pixels
    return settings.features.card().pixels


def _known(key: str) -> Task:
    """The task of that key; raises UnknownNameError where there is none."""
    if key in KNOWN_TASKS:
        return KNOWN_TASKS[key]
    try:
        return find_task(key)
    except UnknownNameError as error:
        # One task more than `mien.tasks` has is known here.
        raise UnknownNameError("task", key, KNOWN_TASKS) from error


def read_settings(path: Path) -> Settings:
    """Read settings from a YAML file.

    Args:
        path: The file; relative paths in it start from its folder.

    Returns:
        The settings.

    Raises:
        DataError: The file cannot be read, or a key is wrong; it names file and key.
        UnknownNameError: A key names no task.
    """
    then = "give a YAML file; `mien train --show` prints one to start from"
    content = read_yaml(path, then)
    if not isinstance(content, dict):
        raise DataError(f"{path}: no settings in it; {then}")
    content = take_schema(content, "settings", str(path))
    try:
        return Settings.model_validate(_from(path.parent, content, str(path)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        reason = (
            f"{path}: {where}: {first['msg']}; "
            "`mien train --show` prints every key with its default"
        )
        raise DataError(printable(reason)) from error


def _from(base: Path, content: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings whose relative paths start from `base`; `where` is what messages begin with.

    Nothing is checked here: what is not of the expected type is left for the model to refuse.
    """
    resolved = dict(content)
    if isinstance(content.get("data"), list):
        sets = []
        for i, spec in enumerate(content["data"]):
            sets.append(starting_from(base, spec, f"{where}: data.{i}"))
        resolved["data"] = sets
    if isinstance(content.get("teachers"), list):
        teachers = []
        for i, teacher in enumerate(content["teachers"]):
            teachers.append(_absolute(base, teacher, f"{where}: teachers.{i}"))
        resolved["teachers"] = teachers
    if isinstance(content.get("features"), dict):
        resolved["features"] = _features_from(base, content["features"], where)
    if isinstance(content.get("network"), dict):
        resolved["network"] = _network_from(base, content["network"], where)
    return resolved


def _network_from(base: Path, network: dict[str, Any], where: str) -> dict[str, Any]:
    """The section `network`, as `_from` makes all of them."""
    # `imagenet` and `faces` are names; a file has a suffix.
    if not Path(str(network.get("start"))).suffix:
        return network
    start = _absolute(base, network["start"], f"{where}: network.start")
    return {**network, "start": start}


def _features_from(base: Path, features: dict[str, Any], where: str) -> dict[str, Any]:
    """The section `features`, as `_from` makes all of them."""
    # Pictures lie in the file's own folder unless it names another.
    section = {"images": ".", **features}
    paths = ["cache", "images"]
    # A bundle that is not known by name is a folder.
    if section.get("bundle") not in list(bundles()):
        paths.append("bundle")
    if isinstance(section.get("external"), list):
        files = []
        for i, file in enumerate(section["external"]):
            files.append(_absolute(base, file, f"{where}: features.external.{i}"))
        section["external"] = files
    for key in paths:
        if key in section:
            section[key] = _absolute(base, section[key], f"{where}: features.{key}")
    return section


def _absolute(base: Path, value: object, where: str) -> object:
    """A path as text, made to start from `base`; anything but text unchanged."""
    if not isinstance(value, str):
        return value
    # A path that starts with ~ is the user's home's, not the file's folder's.
    path = base / at_home(value, where)
    return str(path.absolute())


def with_absolute_paths(settings: Settings) -> Settings:
    """Make settings mean the same from any folder.

    Args:
        settings: Settings whose relative paths start from the current folder.

    Returns:
        The same settings, every path absolute.
    """
    content = settings.model_dump(mode="json")
    return Settings.model_validate(_from(Path.cwd(), content, "settings"))


def write_settings(settings: Settings) -> str:
    """Write settings as YAML.

    Args:
        settings: The settings.

    Returns:
        YAML with every default spelled out and the version of the schema.
    """
    # The schema's version comes first, since it says how to read the rest.
    content = {"settings": SCHEMA, **settings.model_dump(mode="json")}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
