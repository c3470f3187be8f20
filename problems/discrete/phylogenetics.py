"""Phylogenetics: rooted trees of species, from alignments whose sites are split."""

import functools
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from dncbench.draws import Arrays
from dncbench.problems._datasets import Dataset
from dncbench.problems.discrete._enumerated import Enumerated, tabulated
from dncbench.problems.discrete._trees import (
    UNKNOWN,
    Joining,
    jukes_cantor,
    site_log_likelihoods,
)
from dncbench.registry import register_problem

_NUM_TAXA, _NUM_SITES = 27, 1949

_NUCLEOTIDES = dict(zip("ACGT-?N", (0, 1, 2, 3, UNKNOWN, UNKNOWN, UNKNOWN), strict=True))


class _Trees(Enumerated):
    """Posterior of rooted trees with branches of one known length, by JC69; flat prior.

    Sites are independent, so that clients' posteriors, each of some of the sites, multiply to
    the posterior of all.
    """

    unit: ClassVar = "rows"

    def num_leaves(self) -> int:
        """How many species."""
        raise NotImplementedError

    def length(self) -> float:
        """Of every branch, in expected substitutions per site."""
        raise NotImplementedError

    def leaf_names(self) -> tuple[str, ...]:
        """One for each species."""
        return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: self.num_leaves()])

    @property
    def environment(self) -> Joining:
        """Trees are joined from single leaves up."""
        return Joining(self.num_leaves())

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "n K"]:
        """Log likelihood of every site under every tree."""
        sites = np.asarray(observations["site"], np.int8)
        return _terms(self.environment, self.length(), sites.tobytes())

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Which clades a tree has."""
        leaves = self.leaf_names()
        names = [
            "+".join(leaves[leaf] for leaf in range(len(leaves)) if clade >> leaf & 1)
            for clade in self.environment.clades.tolist()
        ]
        return tuple(names), self.graph.objects.astype(float)


@register_problem("phylogenetics", version=1, small="num_taxa=4,num_sites=100")
class Phylogenetics(_Trees):
    """945 rooted trees of 6 species, from 1000 simulated sites on 5 clients, of JC69.

    All branches are 1 substitution per site long, in the simulation and in the model, which
    leaves much to be learned: with shorter ones so many sites leave one tree. 5 species
    with 500 sites (``num_taxa=5,num_sites=500``) have 105 trees. The task of da Silva et al.
    (2024); the alignment is this suite's own.

    Attributes:
        num_shards: S.
        num_taxa: species.
        num_sites: n.
        branch_length: of all branches.
    """

    num_shards: int = 5
    num_taxa: int = 6
    num_sites: int = 1000
    branch_length: float = 1.0

    cites: ClassVar = ("dasilva2024", "jukes1969", "felsenstein1981")
    source: ClassVar = "simulated from a fixed key, in the style of da Silva et al. (2024)"

    def num_leaves(self) -> int:
        """As set."""
        return self.num_taxa

    def length(self) -> float:
        """As set."""
        return self.branch_length

    def data(self, key: PRNGKeyArray) -> dict[str, Int[np.ndarray, "n taxa"]]:
        """Sites of a tree whose lineages join at random, nucleotides running down from its root."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        transition = jukes_cantor(self.branch_length)
        sites = np.empty((self.num_sites, self.num_taxa), dtype=int)

        def down(tree: list, nucleotide: np.ndarray) -> None:
            for part in tree:
                uniform = rng.uniform(size=(self.num_sites, 1))
                reached = (transition.cumsum(1)[nucleotide] < uniform).sum(1)
                if isinstance(part, int):
                    sites[:, part] = reached
                else:
                    down(part, reached)

        trees: list = list(range(self.num_taxa))
        while len(trees) > 1:
            first, second = sorted(rng.choice(len(trees), 2, replace=False).tolist())
            trees[first] = [trees[first], trees.pop(second)]
        down(trees[0], rng.integers(0, 4, self.num_sites))
        return {"site": sites}


def _read(path: Path) -> Float[np.ndarray, "taxa sites"]:
    """A FASTA file as numbers."""
    rows = []
    for block in path.read_text(encoding="ascii").split(">")[1:]:
        _, *lines = block.split("\n")
        rows.append([_NUCLEOTIDES[letter] for letter in "".join(lines).strip()])
    return np.array(rows, dtype=float)


_COMMIT = "df97f10f61334acad1847d2b384ef77d7b35e316"
_DS1 = Dataset(
    name="phylo_ds",
    file="DS1.fasta",
    url=f"https://github.com/zcrabbit/vbpi/archive/{_COMMIT}.zip",
    file_sha256="31f149698c7f5c5536db4f00b815affe5edf4a6eef3532206f5e42763ec3cc18",
    shape=(_NUM_TAXA, _NUM_SITES),
    array_sha256="955ac1e0fed3fb97d0c1c22aa485c43a20257dfe02699f87bd81c730f8d6bb82",
    parse=_read,
    stand_in="phylogenetics",
    member=f"vbpi-{_COMMIT}/data/hohna_datasets_fasta/DS1.fasta",
)


_FROGS = {  # by their places in the file
    "Bufo": 3,
    "Eleutherodactylus": 5,
    "Gastrophryne": 7,
    "Hyla": 11,
    "Nesomantis": 16,
    "Xenopus": 26,
}


@register_problem("phylogenetics-ds1", version=1, dataset="phylo_ds")
class PhylogeneticsDS1(_Trees):
    """945 rooted trees of six frogs, from 1949 real sites of ribosomal RNA on 5 clients, by JC69.

    Bufo valliceps, Eleutherodactylus cuneatus, Gastrophryne carolinensis, Hyla cinerea,
    Nesomantis thomasseti and Xenopus laevis, of the 27 species of DS1. All branches are 0.011475
    long: with that length the most likely tree is more likely than any with another one.
    Of eight sets of six species that were looked at, this is the one whose posterior has more
    than 1.5 nats of entropy; constant branches leave the others nearly a point.

    Attributes:
        num_shards: S.
    """

    num_shards: int = 5

    cites: ClassVar = ("hedges1990", "lakner2008", "jukes1969", "felsenstein1981", "dasilva2024")
    source: ClassVar = (
        "Hedges, Moberg & Maxson (1990), as DS1 in Lakner et al. (2008); file of Zhang & "
        "Matsen's vbpi repository"
    )

    def num_leaves(self) -> int:
        """Six."""
        return len(_FROGS)

    def length(self) -> float:
        """By maximum likelihood, over trees and lengths."""
        return 0.011475

    def leaf_names(self) -> tuple[str, ...]:
        """Genera."""
        return tuple(_FROGS)

    def data(self, key: PRNGKeyArray) -> dict[str, Int[np.ndarray, "n taxa"]]:
        """The published alignment; ``key`` is not used.

        Raises:
            DataError: see :mod:`dncbench.problems._datasets`.
        """
        return {"site": _DS1.load()[list(_FROGS.values())].T.astype(int)}


@functools.lru_cache(maxsize=4)
def _terms(environment: Joining, length: float, sites: bytes) -> Float[np.ndarray, "n K"]:
    """Kept, because draws, densities and the truth ask for the same."""
    alignment = np.frombuffer(sites, np.int8).reshape(-1, environment.num_leaves)
    trees = tabulated(environment).objects
    return site_log_likelihoods(trees, environment.clades, alignment, length)
