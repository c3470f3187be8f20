"""Pages made of records written by hand, for the tests of the report."""

import base64
import gzip

import numpy as np
from handmade import failed, record

from dncbench.report.features import Features
from dncbench.report.grouping import groups
from dncbench.report.growth import Growth
from dncbench.report.kept import Kept
from dncbench.report.laws import Laws, clients, maps
from dncbench.report.overlays import overlays
from dncbench.report.page import page

HOSTILE = '</script><script>alert("x")</script>'
ENVIRONMENT = {
    "commit": "0123456789ab",
    "python": "3.11",
    "packages": {"numpy": "2.0", "jax": None},
}


def report_records(hostile=""):
    """Two problems: a method at the floor, one above, failed, inapplicable, unreliable, absent."""
    records = []
    for split in (0, 1, 2):
        values = {"mah@1": 0.55 + 0.01 * split, "iad@1": 0.5, "skew@1": 0.45}
        records += [
            record("oracle", split, values, track="reference"),
            record(
                "good",
                split,
                values,
                environment=ENVIRONMENT,
                memory_bytes={"fit": 300 << 20, "merge": 9},
            ),
            record(
                "wild", split, {"mah@1": 2.0, "iad@1": 9.0, "skew@1": 60.0}, track="draws + scores"
            ),
        ]
    shaky = {"mah@1": 1.2, "iad@1": 1.2, "skew@1": 1.2}
    quick = record("quick", 0, {"mah@1": 4.0, "iad@1": 3.0, "skew@1": 2.0})
    quick["seconds"] |= {"merge": 0.001}
    records += [
        quick,
        record("shaky", 0, shaky, status="unreliable", reason="R-hat of the merge 1.4"),
        record("partly", 0, shaky, warnings=["the tails are heavy"]),
        failed("partly", 1, "ValueError: singular"),
        failed("broken", 0, f"ValueError: no luck {hostile}"),
        failed("apart", 0, "three dimensions at most", status="not applicable"),
        record("good", 0, {"mah@1": 3.0, "iad@1": 0.5, "skew@1": 0.5}, problem="other"),
        record(
            "oracle",
            0,
            {"mah@1": 0.5, "iad@1": 0.5, "skew@1": 0.5},
            problem="other",
            track="reference",
        ),
        record(
            "learner",
            0,
            problem="other",
            info={"ess": 1200.0, "learning_curve": [3.0, 1.0, 0.5, 0.4]},
            training=[{"share": 0.5, "tv": 0.4}, {"share": 1.0, "tv": 0.1}],
            importance={
                "k_hat": 0.2,
                "ess_share": 0.95,
                "points": 400,
                "rank_correlation": 0.8765,
            },
        ),
    ]
    if hostile:
        records.append(record("named", 0, label=f"named[x={hostile}]", warnings=[hostile]))
    return records


def handmade_laws(hostile=""):
    """Of a lattice of six objects: a method with two clients, and one that tells no law."""
    points = np.array([(x, y) for x in range(2) for y in range(3)], dtype=float)
    truth = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.1])
    law = np.array([0.1, 0.2, 0.3, 0.3, 0.1, 0.0])
    method, both = f"learner{hostile}", np.stack([truth, law])
    own = clients(both, {method: both})
    drawn = maps(points, (f"row{hostile}", "column"), truth, {method: law, "oracle": truth})
    first, second = own[method]
    return Laws(len(truth), {method: second, "oracle": first}, ["oracle"], own, drawn)


def handmade_page(hostile="", summaries=()):
    """The page of :func:`report_records`, with drawings for the first problem."""
    found = groups(report_records(hostile))
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((2000, 3))
    merged = {
        row.method: truth + 0.3 * number
        for number, row in enumerate(found[0].board.rows)
        if row.scores
    }
    marginals, pair = overlays(truth, merged, ("first", "second", f"third{hostile}"))
    kept = [
        Kept(
            description=f"Made by hand. {hostile}\n\nAnd more.",
            source="nobody, https://example.org, CC BY 4.0",
            features=Features(
                dim=3, shards=4, skew=0.1, modes=1, heterogeneity=1.0, constrained=False
            ),
            marginals=marginals,
            pair=pair,
        ),
        Kept(
            features=Features(dim=30, shards=4),
            laws=handmade_laws(hostile),
            missing=["overlays: none"],
        ),
    ]
    drawn = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    study = Growth(
        axis="dim",
        title=f"dim: parameters {hostile}",
        figure=base64.b64encode(gzip.compress(drawn, mtime=0)).decode(),
        header=["method", "mah exponent"],
        rows=[[f"good{hostile}", "0.50 ± 0.10"]],
        notes=[f"broken at 8: {hostile}"],
        command="dncbench scale --axis dim --splits 3",
    )
    return page(found, kept, summaries, [study], commits_timed=5)
