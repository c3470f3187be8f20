"""What to cite: every name resolves, every entry is used, BibTeX is well formed."""

import pytest
from click.testing import CliRunner
from handmade import Whole

from dncbench import citations, register_method, registry
from dncbench.cli import main
from dncbench.errors import ContractError

EVERYTHING = [
    (kind, entry.name)
    for kind in ("method", "correction", "problem")
    for entry in registry.entries(kind)
]


def test_every_cited_key_is_an_entry_and_every_entry_is_cited() -> None:
    cited = {
        citations.key(entry) for kind, name in EVERYTHING for entry in citations.of(kind, name)
    }
    assert cited | {*citations.ALWAYS} == citations.entries().keys()


@pytest.mark.parametrize("key", citations.entries())
def test_entries_are_well_formed(key: str) -> None:
    entry = citations.entries()[key]
    assert entry.count("{") == entry.count("}")
    assert entry.endswith("}")
    fields = {line.split("=")[0].strip() for line in entry.splitlines() if " = " in line}
    assert {"title", "author"} <= fields
    assert "year" in fields or key == "dncbench"


def test_the_command_prints_each_entry_once() -> None:
    arguments = ["cite", "--method", "semiparametric", "--method", "parametric[]"]
    done = CliRunner().invoke(main, [*arguments, "--problem", "spambase"])
    assert done.exit_code == 0, done.output
    keys = [
        citations.key(part)
        for part in done.stdout.strip().split("\n\n@")
        for part in ["@" + part.removeprefix("@")]
    ]
    assert keys == sorted({*citations.ALWAYS, "neiswanger2014", "hopkins1999", "trojan2024"})


def test_a_correction_is_cited_with_the_merge_that_it_follows() -> None:
    merge, corrected = (
        {citations.key(entry) for entry in citations.bibtex({"method": [spec]}).split("\n\n")}
        for spec in ("consensus[weights=shard]", "consensus[weights=shard] + psis")
    )
    assert corrected == merge | {"vehtari2024"} > merge


@pytest.mark.usefixtures("clean_registry")
def test_a_plugin_may_bring_its_own_entry() -> None:
    @register_method("mine")
    class Mine(Whole):
        """Mine."""

        cites = ("@misc{me2026, title = {Mine}, author = {Me}, year = {2026}}",)

    assert "@misc{me2026," in citations.bibtex({"method": ["mine"]})
    Mine.cites = ("nobody1900",)
    with pytest.raises(ContractError, match="cites 'nobody1900'"):
        citations.of("method", "mine")
    Mine.cites = ("@misc no key",)
    with pytest.raises(ContractError, match="no BibTeX entry"):
        citations.of("method", "mine")
