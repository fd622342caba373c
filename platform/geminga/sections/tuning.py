"""Files of a tuning: which settings are varied, over what, how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from geminga.sections.base import AtLeastOne, Count, Positive, Section

Value = bool | int | float | str


class Parameter(Section):
    """Where a setting is sought: between two numbers, or among values."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(False, description="seek evenly in the logarithm")
    values: tuple[Value, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Parameter:
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either values, or low and high")
            if len(set(map(repr, self.values))) != len(self.values):
                raise ValueError(f"values {list(self.values)} must be distinct")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or values")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has no logarithm; use log: false")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values themselves, or both bounds: what the setting must allow."""
        if self.values is not None:
            return self.values
        if self.low is None or self.high is None:
            raise ValueError("neither values nor bounds")
        return self.low, self.high


class Tuning(Section):
    """What the search for better settings has in common, whatever it measures."""

    name: str = Field("tune", pattern=r"^[A-Za-z0-9_.-]+$")
    space: dict[str, Parameter] = Field(
        min_length=1, description="settings that are varied, by their dotted keys"
    )
    trials: AtLeastOne = 20
    concurrency: AtLeastOne = Field(
        1, description="trials at a time; with one the same seed always gives the same trials"
    )
    seed: Count = 2018
    time_budget_minutes: Positive | None = Field(
        None, description="start nothing new and end what goes on after this time"
    )


class TrainingTuning(Tuning):
    """Search for settings of a network and of its training."""

    network: Literal["miun", "ranker", "classifier", "evidence_net"] = "miun"
    objective: str = Field(
        "valid_loss",
        pattern=r"^valid_[a-z_]+$",
        description="figure of the best epoch: valid_loss (lower is better), or another one that "
        "the training reports of the validation set (higher is better)",
    )
    grace_epochs: AtLeastOne = Field(1, description="epochs before a trial may be stopped early")
    reduction: Annotated[float, Field(gt=1)] = Field(
        3.0, description="of this many trials one goes on at each halt of the early stop (ASHA)"
    )


class LocalisationTuning(Tuning):
    """Search for settings from MIUN's output to positions: completeness at the purity floor."""
