"""One build, from what was read to the folder of a draft: choose, train, fit, write."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.strings import save_strings
from offline.build.fit import Known, fit
from offline.build.parameter_search import choose
from offline.bundle_folder import seal
from offline.split.windows import SplitKind, plan_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core.manifest import Manifest
    from core.types import UserState
    from offline.build.fit import Fitted, World
    from offline.build.ranker_training import DeepTrainer, Model
    from offline.build.recipe import Recipe
    from offline.progress import Progress
    from offline.split.cases import Cases
    from offline.split.cuts import Cut
    from offline.split.windows import Plan
    from ranking.tower_result import TowerResult

CHOOSE_S = 60.0
"""No new trial of CF parameters starts after so many seconds."""


@dataclass(frozen=True)
class Training:
    """What may be spent on the deep model.

    Attributes:
        minutes: about how long towers and ranker may take together.

        checkpoints: a folder where an interrupted training is found again and goes on; None = it starts anew.

        ablate: train the ranker once more without each group of inputs, to say what each is worth.
    """

    minutes: float = 30.0
    checkpoints: Path | None = None
    ablate: bool = False


class Builder:
    """Makes drafts of one set of events at any cut, with choices made once.

    Attributes:
        world: what was read.

        plan: the windows.

        warnings: what was not done as the options wanted, in words; grows while drafts are made.

        precomputed_above_cf: ``Manifest.precomputed_above_cf`` of every draft to come. It takes the serving code to find
            out, so whoever drives that sets it; None = nobody has yet, which means yes.

        list_ages_of_validation: the figures by which that was decided.
    """

    def __init__(
        self,
        world: World,
        split: SplitKind,
        horizon_days: float,
        *,
        seed: int,
        deep: bool,
        progress: Progress,
        training: Training | None = None,
    ) -> None:
        """Plan the windows; nothing is fitted yet.

        Args:
            world: what was read.
            split: how evaluation cases are made.
            horizon_days: length of a window; shorter where the data is short.
            seed: of every random number.
            deep: whether to train the deep model.
            progress: called during everything that takes long.
            training: what may be spent on the deep model.
        """
        self.world = world
        self.plan: Plan = plan_of(world.log, split, horizon_days)
        self.warnings: list[str] = []
        self.precomputed_above_cf: bool | None = None
        self.list_ages_of_validation: Mapping[str, Any] | None = None
        self._split, self._seed, self._with_deep, self._progress = split, seed, deep, progress
        self._training = training or Training()

    @cached_property
    def recipe(self) -> Recipe:
        """Parameters of the lower rungs, chosen on the validation window."""
        recipe = choose(self.world, self.plan, budget_s=CHOOSE_S, seed=self._seed, progress=self._progress)
        if recipe.untried:
            self.warnings.append(
                f"{recipe.untried} settings of the lower rungs were not tried within {CHOOSE_S:.0f} s: on a faster "
                "machine the same data may be given others"
            )
        if recipe.left_out:
            self.warnings.append(
                f"left out of the bundle: {', '.join(recipe.left_out)}. In the validation window they found nothing "
                "relevant that other generators do not find with fewer candidates"
            )
        return recipe

    @cached_property
    def _trainer(self) -> DeepTrainer:
        from offline.build.ranker_training import DeepTrainer

        return DeepTrainer(
            self.world,
            self.recipe,
            seed=self._seed,
            train_s=60 * self._training.minutes,
            checkpoints=self._training.checkpoints,
            ablate=self._training.ablate,
            warnings=self.warnings,
            progress=self._progress,
        )

    @cached_property
    def _model(self) -> Model | None:
        return self._trainer.train(self.plan) if self._with_deep else None

    def draft(self, folder: Path, cut: Cut, version: str) -> Manifest:
        """Write a sealed bundle that knows the world up to ``cut`` into an empty folder, without figures."""
        known = Known.at(self.world, cut)
        model = self._model
        tower = None if model is None else self._trainer.towers.next(known, model.tower)
        return self._draft(folder, known, tower, version)

    def draft_for_choices(self, folder: Path) -> Manifest | None:
        """The same at the validation window's cut, for what is chosen there; None where there is no deep rung."""
        model = self._model
        if model is None:
            return None
        return self._draft(folder, Known.at(self.world, self.plan.valid.cut), model.tower, "not published")

    def _draft(self, folder: Path, known: Known, tower: TowerResult | None, version: str) -> Manifest:
        model = self._model
        about: dict[str, Any] = {}
        if model is None or tower is None:
            fitted = fit(self.world, known, self.recipe)
        else:
            fitted = self._trainer.fit(known, tower)
            (folder / "model").mkdir()
            about = self._trainer.write(folder / "model", model, tower, fitted)
        return _write(folder, self.world, fitted, version, about, above_cf=self.precomputed_above_cf is not False)

    def test_cases(self, *, new_only: bool = True) -> tuple[Cases, Sequence[UserState], dict[str, Any]]:
        """The cases of the test window, what the store would know of their users, and a description for the figures.

        Args:
            new_only: only items that the user did not have before are relevant.
        """
        cases = self.world.cases(self.plan.test, new_only=new_only)
        described = {"kind": self._split.value, "horizon_days": self.plan.horizon_days, "new_only": new_only}
        return cases, self.world.user_states(cases), described


def _write(
    folder: Path, world: World, fitted: Fitted, version: str, model: Mapping[str, Any], *, above_cf: bool
) -> Manifest:
    """Write everything but the model into the folder and seal it, without figures."""
    for name in ("catalogue", "cf", "similar", "generators"):
        (folder / name).mkdir()
    world.data.catalogue.save(folder / "catalogue")
    save_strings(folder / "titles", world.data.titles)
    fitted.prior.save(folder / "cf")
    fitted.similar.save(folder / "similar")
    for name, generator in fitted.generators.items():
        (folder / "generators" / name).mkdir()
        generator.save(folder / "generators" / name)
    manifest = replace(
        fitted.bundle.manifest,
        version=version,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=importlib.metadata.version("terrace"),
        data=world.data.report.as_dict(),
        model=model,
        precomputed_above_cf=above_cf,
    )
    return seal(folder, manifest)
