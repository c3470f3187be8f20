"""The command line where nothing runs: plans, help, user errors, tables of what was recorded."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import failed, record

from dncbench import budget as budgets
from dncbench.cli import main
from dncbench.storage.records import Records

GOLDEN = Path(__file__).parent / "golden" / "leaderboard.md"
EXAMPLES = {
    "run": 'dncbench run --method "consensus[weights=shard]"',
    "leaderboard": "dncbench leaderboard --metric all --format csv > board.csv",
    "compare": "dncbench compare trojan2024",
    "figure": "dncbench figure trojan2024-2",
    "report": "dncbench report --problem spambase --budget quick",
    "reference": "dncbench reference spambase",
    "scale": "dncbench scale --axis shards --values 2,4,8,16 --splits 5",
    "show": "dncbench show spambase",
}


def _invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ---------------------------------------------------------------- nothing runs


def test_dry_run_lists_the_cells_and_writes_nothing(tmp_path):
    done = _invoke(
        "run",
        "--problem",
        "toy-logistic[num_shards=3]",
        "--method",
        "consensus[weights=shard]",
        "--method",
        "pooled",
        "--splits",
        2,
        "--results",
        tmp_path,
        "--dry-run",
    )
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "toy-logistic[num_shards=3]  random-0  consensus[weights=shard]",
        "toy-logistic[num_shards=3]  random-0  pooled",
        "toy-logistic[num_shards=3]  random-1  consensus[weights=shard]",
        "toy-logistic[num_shards=3]  random-1  pooled",
        "4 to run, 0 done already",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--problem", "spambas"], "no problem is called 'spambas'; did you mean spambase"),
        (["run", "--method", "swis"], "no method is called 'swis'; did you mean swiss"),
        (["run", "--method", "consensus[weigths=shard]"], "did you mean weights"),
        (["run", "--split-scheme", "randm"], "did you mean random"),
        (["reference", "toy-logistics"], "did you mean toy-logistic"),
        (["leaderboard", "--problem", "toy"], "no problem is called 'toy'"),
        (["show", "consenus"], "nothing is called 'consenus'; did you mean consensus"),
        (["run", "--plugin", "absent.py"], "plugin absent.py: no such file"),
    ],
)
def test_user_error_is_one_message_and_exit_code_2(arguments, said):
    done = _invoke(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize("command", [*EXAMPLES, "list"])
def test_help_has_an_example_where_a_command_has_options_of_its_own(command):
    done = _invoke(command, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert EXAMPLES.get(command, "List what is registered") in done.stdout


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("spambase", ["spambase@1 (problem)", "dimension: 58", "shards: 4", "source: Hopkins"]),
        ("toy-logistic[num_shards=3]", ["num_shards = 3", "shards: 3"]),
        ("consensus", ["consensus@1 (method)", "weights = matrix", "needs: covariance, draws"]),
        ("mah", ["mah@1 (metric)"]),
        ("psis", ["psis@1 (correction)"]),
    ],
)
def test_show_describes_settings_and_needs(name, parts):
    done = _invoke("show", name)
    assert done.exit_code == 0
    for part in parts:
        assert part in done.stdout


# ---------------------------------------------------------------- without JAX

QUICK = "import sys; from dncbench.cli import main; main(sys.argv[1:], standalone_mode=False)"
QUICK += "; print('numpy' in sys.modules, 'scipy' in sys.modules)"


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["scale", "--help"]])
def test_what_computes_nothing_waits_for_nothing_numerical(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-c", QUICK, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("False False\n")


JAX_FREE = "import sys; from dncbench.cli import main; main(sys.argv[1:], standalone_mode=False)"
JAX_FREE += "; print('jax' in sys.modules, 'equinox' in sys.modules)"


@pytest.mark.parametrize(
    "arguments", [["list"], ["leaderboard"], ["--help"], ["run", "--help"], ["scale", "--help"]]
)
def test_commands_that_only_read_never_import_jax(tmp_path, arguments):
    Records(tmp_path).put(record("consensus", problem="toy-logistic"))
    done = subprocess.run(
        [sys.executable, "-c", JAX_FREE, *arguments],
        env={"DNCBENCH_RESULTS": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False False"
    if arguments == ["list"]:
        ids = [line.split()[0] for line in done.stdout.splitlines() if "@" in line.split(" ")[0]]
        assert ids == LISTED
        assert "[rounds=2]" in done.stdout
    if arguments == ["leaderboard"]:
        assert "consensus" in done.stdout


LISTED = [
    "banana@1",
    "banana-grid@1",
    "bayes-net@1",
    "gaussian-mixture@1",
    "grid-world@1",
    "logistic-100d@1",
    "logistic-tall@1",
    "multisets@1",
    "multisets-large@1",
    "phylogenetics@1",
    "phylogenetics-ds1@1",
    "poisson-regression@1",
    "power-plant@1",
    "power-plant-one-row@1",
    "sequences@1",
    "skewed-gamma@1",
    "spambase@1",
    "spambase-twin@1",
    "toy-logistic@1",
    "average@1",
    "central-gflownet@1",
    "consensus@1",
    "diffusion@1",
    "empirical-product@1",
    "ep-gflownet@1",
    "ep-gflownet-exact@1",
    "ep-gflownet-is@1",
    "fedavg-gflownet@1",
    "flow@1",
    "gp@1",
    "kernel-product@1",
    "local-polynomial@1",
    "markov-product@1",
    "nonparametric@1",
    "oracle@1",
    "parametric@1",
    "pcvi@1",
    "pooled@1",
    "score-regression@1",
    "score-sum-sde@1",
    "semiparametric@1",
    "swiss@1",
    "swiss-product@1",
    "decoded@1",
    "psis@1",
    "c2st@1",
    "cov@1",
    "coverage@1",
    "eig-max@1",
    "eig-min@1",
    "energy@1",
    "iad@1",
    "iad-128@1",
    "iad-rank@1",
    "jeffreys@1",
    "jsd@1",
    "kl-forward@1",
    "kl-reverse@1",
    "ksd@1",
    "l1@1",
    "log-predictive@1",
    "mah@1",
    "marginal-tv@1",
    "mmd@1",
    "modes@1",
    "modes-missed@1",
    "skew@1",
    "sw2@1",
    "top-log-prob@1",
    "tv@1",
]


# ---------------------------------------------------------------- golden tables


@pytest.fixture
def written(tmp_path):
    """Records by hand, as the leaderboard reads them."""
    records = Records(tmp_path)
    for split in (0, 1, 2):
        values = {"mah@1": 1.0 + split, "iad@1": 0.25}
        records.put(record("alpha", split, values))
        values = {"mah@1": 9.0 + split, "iad@1": 0.25 + 0.5 * split}
        records.put(record("beta", split, values, label="beta[x=1]", other_load_cores=1.0))
    records.put(failed("gamma", reason="DrawsError: shard 1 [of 3]"))
    records.put(record("consensus", method_version=0))
    return tmp_path


def test_leaderboard_in_markdown_is_this_text(written):
    done = _invoke("leaderboard", "--results", written, "--format", "md")
    assert done.exit_code == 0
    assert done.stdout == GOLDEN.read_text(encoding="utf-8")


def test_terminal_table_keeps_settings_and_reasons_in_brackets(written):
    done = _invoke("leaderboard", "--results", written)
    assert done.exit_code == 0
    assert "│ beta[x=1] " in done.stdout
    assert "[of 3]" in done.stdout
    assert "1 stale records (of older versions) are left out" in done.stdout


@pytest.mark.parametrize("more", [(), ("--track", "draws"), ("--summary",)])
def test_no_records_say_how_to_make_some(tmp_path, more):
    done = _invoke("leaderboard", "--results", tmp_path, *more)
    assert (done.exit_code, done.stdout) == (0, "no records yet; make some with: dncbench run\n")


def test_a_summary_that_cannot_be_says_what_it_takes(written):
    done = _invoke("leaderboard", "--results", written, "--summary")
    assert done.exit_code == 2
    assert "two boards that rank merges, each with three splits or more" in done.output


def test_a_board_of_a_changed_budget_is_asked_for_by_its_name(tmp_path):
    store = Records(tmp_path)
    for name in ("quick", "quick[num_draws=2000]"):
        contents = budgets.get(name).contents()
        store.put(record(values={"mah@1": 1.0}, budget=name) | {"budget": contents})
    ask = ("leaderboard", "--results", tmp_path, "--format", "csv", "--budget")
    shown = _invoke(*ask, "quick[num_draws=2000,draws_per_shard=10000]")
    assert shown.exit_code == 0, shown.output
    assert "quick[num_draws=2000]" in shown.stdout
    assert "quick[" not in _invoke(*ask, "quick").stdout
    wrong = _invoke(*ask, "quik")
    assert (wrong.exit_code, "did you mean quick" in wrong.output) == (2, True)


@pytest.mark.parametrize("character", ["\0", "\ud800"], ids=["null", "half of a character"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "{}", "results"),
        ("merge-results", "{}"),
        ("leaderboard", "--results", "{}"),
        ("publish", "--readme", "{}"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_that_no_file_can_have_is_an_error_of_one_line(
    tmp_path, monkeypatch, arguments, character
) -> None:
    monkeypatch.chdir(tmp_path)
    done = _invoke(*(argument.format(character) for argument in arguments))
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert sum(line.lower().startswith("error: ") for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_metric_that_no_record_has_is_said_with_the_command_that_reads_it(tmp_path):
    Records(tmp_path).put(record("consensus", values={"mah@1": 1.0}))
    done = _invoke("leaderboard", "--results", tmp_path, "--metric", "mah", "--metric", "sw2")
    assert done.exit_code == 2
    assert "no record here has a figure of sw2" in done.stderr
    assert "dncbench score --metric sw2" in done.stderr
    assert _invoke("leaderboard", "--results", tmp_path, "--metric", "mah").exit_code == 0
