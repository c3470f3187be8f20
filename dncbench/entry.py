"""What is known of a registered problem, method, correction or metric before it is imported."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["problem", "method", "correction", "metric"]

SHAPES = {
    "glm": "generalised linear models, all log-concave",
    "log-concave": "other log-concave posteriors",
    "not log-concave": "posteriors that are not log-concave",
}
"""Classes of posteriors, over which the summary has means of their own."""


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        kind: "problem", "method", "correction" or "metric".
        name: what the command line and the records call it.
        version: raised whenever the meaning of its figures changes; records of
            another version are stale and never shown beside current ones.
        summary: first line of its docstring.
        module: where it is defined.
        variants: settings that "all" runs beside the defaults, e.g. ``("rounds=2",)``.
        ranked: whether a problem counts in the summary over problems; whether a method is a merge,
            and has ranks among others.
        control: whether it is registered because it is wrong on purpose, so that the laws
            which it must break are not held against it.
        small: settings, written as in brackets, with which laws that need no accuracy are
            tried, so that they take seconds.
        accurate: cheaper settings than the defaults with which a method is as accurate as
            the laws of accuracy ask; "" for the defaults.
        dataset: folder of the real data set that a problem needs; "" for none.
        repeats: setting of a problem whose values repeat one experiment; "" for none.
        shape: of a problem's posterior, one of :data:`SHAPES`; "" where nobody says.
        ours: whether a method was devised by this project, and not taken from elsewhere.
        developed_on: problems that a method's settings were chosen on.
        reads: what a metric reads of its samples.
        log: whether a metric is a logarithm already, so that its excess over what perfect
            draws read counts, and no ratio to it.
        moments: order of the moments of the posterior that a metric needs to be finite.
        then: the correction that follows a method.
        source: digest of a plugin's source, part of its id; "" for what ships with dncbench.
        target: the class or function; None while only its decorator was read.
    """

    kind: Kind
    name: str
    version: int
    summary: str
    module: str
    target: Any = None
    variants: tuple[str, ...] = ()
    ranked: bool = True
    control: bool = False
    small: str = ""
    accurate: str = ""
    dataset: str = ""
    repeats: str = ""
    shape: str = ""
    ours: bool = False
    developed_on: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("values",)
    log: bool = False
    moments: float = 0.0
    then: "Entry | None" = None
    source: str = ""

    @property
    def specs(self) -> list[str]:
        """What "all" stands for: the name, and the name with each variant's settings."""
        return [self.name, *(f"{self.name}[{variant}]" for variant in self.variants)]

    @property
    def id(self) -> str:
        """Name with version, e.g. ``spambase@1``, as records store it.

        Of a plugin, with a digest of its source: ``median@1+3fa9c1d2e4b5``.
        """
        own = f"{self.name}@{self.version}" + (f"+{self.source}" if self.source else "")
        return own if self.then is None else f"{own} + {self.then.id}"

    @property
    def small_spec(self) -> str:
        """The name with its small settings."""
        return f"{self.name}[{self.small}]" if self.small else self.name
