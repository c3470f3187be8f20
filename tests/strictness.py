"""The run-time type checker under test: beartype, to which a whole number is a number too."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
