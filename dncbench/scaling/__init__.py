"""Scaling studies: how error, seconds and bytes grow along one axis, for every method.

``cases`` says what to run, on a family of problems with known truth; the cells are
ordinary ones. ``study`` reads their records, and needs no JAX.
"""

from dncbench.scaling.axes import Axis, get_axis, known_axes
from dncbench.scaling.curves import Curve, Point, Study, study
from dncbench.scaling.exponents import Exponent

__all__ = [
    "FOLDER",
    "Axis",
    "Curve",
    "Exponent",
    "Point",
    "Study",
    "get_axis",
    "known_axes",
    "study",
]

FOLDER = "scale"
"""Within a results folder: where studies keep their records, apart from those of the boards."""
