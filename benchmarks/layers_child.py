"""The child that times layers: `python -m jetlift.benchmarks.layers_child`, a job on stdin.

It keeps the rules of `jetlift.benchmarks.worker`.
"""

from __future__ import annotations

from jetlift.benchmarks.layers import LayersAnswer, LayersJob, time_layers
from jetlift.benchmarks.worker import answer_with
from jetlift.runtime import jsonform


def _do(text: bytes) -> LayersAnswer:
    return time_layers(jsonform.loads(LayersJob, text))


if __name__ == "__main__":
    answer_with(_do)
