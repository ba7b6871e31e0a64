"""NAMSG for Apache MXNet: ``gluon.Trainer(params, 'namsg', {...})`` works once this package is imported.

Chen et al., "NAMSG: An Efficient Method For Training Neural Networks", arXiv 1905.01422, May 2019.
"""

from namsg_mx.compat import prepare_for_mxnet

prepare_for_mxnet()

# A kvstore server unpickles optimizers while MXNet, and so this package, is still being imported. So the modules below
# import submodules, or names from them, and never a name that `mxnet/__init__.py` or this file defines.
from namsg_mx.averaging import ParameterAverage  # noqa: E402
from namsg_mx.batch_norm import update_batch_norm  # noqa: E402
from namsg_mx.optimizers import NAMSB, NAMSG, AMSBound, AMSGrad, AveragedSGD, DozatNadam  # noqa: E402
from namsg_mx.schedules import (  # noqa: E402
    ExponentialDecay,
    HarmonicDecay,
    InverseSquareRoot,
    ObservationDistance,
    StepDecay,
    WarmUp,
)
from namsg_mx.weight_decay import exempt_from_decay  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "NAMSB", "NAMSG", "AMSBound", "AMSGrad", "AveragedSGD", "DozatNadam",
    "ExponentialDecay", "HarmonicDecay", "InverseSquareRoot", "ObservationDistance", "StepDecay", "WarmUp",
    "ParameterAverage", "exempt_from_decay", "update_batch_norm",
]
