"""Methods that leave the process otherwise than they found it, or try to end it."""

import os
import random
import signal
import sys
import warnings

import jax
import numpy as np

from dncbench import Method, register_method


class _Average(Method):
    untraced = frozenset({"finish"})

    def fit(self, shard, key):
        return shard.values

    def merge(self, messages, key, num_draws):
        self.misbehave()
        return np.asarray(messages).mean(0)[:num_draws], {}


@register_method("exits")
class Exits(_Average):
    """Raises SystemExit."""

    def misbehave(self):
        sys.exit(0)


@register_method("exits-hard")
class ExitsHard(_Average):
    """Calls os._exit."""

    def misbehave(self):
        os._exit(0)


@register_method("generator-exit")
class Generates(_Average):
    """Raises what is no Exception."""

    def misbehave(self):
        raise GeneratorExit("gone")


@register_method("moves")
class Moves(_Average):
    """Changes all that the next method's figures, or their records, hang on."""

    def misbehave(self):
        os.chdir("/")
        os.environ["DNCBENCH_RESULTS"] = "/elsewhere"
        jax.config.update("jax_enable_x64", False)
        np.seterr(all="ignore")
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        warnings.simplefilter("ignore")
        sys.path.clear()
        sys.setrecursionlimit(123456)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.stdout = None
