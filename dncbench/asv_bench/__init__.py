"""Speed, memory and accuracy across commits, measured by asv (``asv.conf.json``).

asv imports this folder from the checkout, as ``asv_bench``, beside the dncbench of whichever
commit it has installed. So only what every commit has is used here: ``registry``,
``configure``, ``run_method``, ``Shard``, ``Sample``. Parameters are read from the
checkout's registry, so a new method or metric is measured without being named here; where
the installed commit does not have it yet, asv shows n/a.
"""

import os

# As the command line does, and for its reason; before NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
