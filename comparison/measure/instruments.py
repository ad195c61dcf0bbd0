"""What a measurement is made and looked at with: checks that need a model, and the senses that texts are compared by."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from adapters.training.data.check import check
from adapters.training.recipe import dataset_path
from backends import pretrained
from backends.wheels import Report
from comparison.checks.check import Tools
from comparison.measure import tone
from comparison.measure.advice import advise
from comparison.measure.embedding import Embedding
from comparison.measure.figures.answers import Senses
from comparison.measure.figures.reckon import results
from comparison.measure.folder import RunFolder
from comparison.measure.plan import Plan, Slot
from comparison.measure.results import Results
from comparison.modes import Catalogue, ModeId
from errors import CounterpointError


class Instruments:
    """Loads what it needs when it is first needed. `cache` is where fetched models lie; without a catalogue no dataset
    is at hand."""

    def __init__(self, cache: Path, catalogue: Catalogue | None = None) -> None:
        self._embedding, self.catalogue = Embedding(cache), catalogue

    def load(self, plan: Plan, report: Report = lambda share, what: None) -> None:
        """Fetches and loads what a plan's figures will need, telling how far it is. Raises WorkFailed where it cannot:
        better before everything is asked than after."""
        compared = any(suite.repeat or any(test.paraphrases for test in suite.tests) for suite in plan.suites)
        if compared or "embedding" in plan.needs:
            self._embedding.load(report)

    def tools(self, plan: Plan) -> Tools:
        """For the checks of a plan's suites."""
        return Tools(similarity=self._embedding.similarity if "embedding" in plan.needs else None)

    def results(self, folder: RunFolder) -> Results:
        """All figures of a measurement so far, and the advice."""
        senses = Senses(self._embedding.embed, tone.tone, tone.decision_words)
        found = results(folder, senses)
        return found.model_copy(update={"advice": advise(found)})

    def check_data(self, slot: Slot) -> float | None:
        """In how many seconds the dataset of a slot's adapter is checked; None where it is not at hand."""
        mode = ModeId.parse(slot.mode)
        if self.catalogue is None or not mode.adapter:
            return None
        with suppress(CounterpointError, OSError):
            passport = self.catalogue.passport(mode)
            folder = self.catalogue.adapters.source(mode.adapter).weights.parent
            path = dataset_path(folder / "recipe.yaml", passport.recipe.train) if passport else None
            if passport and path and path.is_file():
                return _seconds_to_check(
                    path, passport.recipe.max_length, self.catalogue.adapters.base().folder
                )
        return None


def _seconds_to_check(path: Path, max_length: int, base: Path) -> float:
    began = time.monotonic()
    check(path, pretrained.tokenizer(base), max_length)
    return round(time.monotonic() - began, 3)
