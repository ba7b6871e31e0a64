"""The optimizers; importing them registers them with MXNet under their names in lower case."""

from namsg_mx.optimizers.amsgrad import AMSGrad
from namsg_mx.optimizers.bounded import NAMSB, AMSBound
from namsg_mx.optimizers.nadam import DozatNadam
from namsg_mx.optimizers.namsg import NAMSG
from namsg_mx.optimizers.sgd import AveragedSGD

__all__ = ["AMSBound", "AMSGrad", "AveragedSGD", "DozatNadam", "NAMSB", "NAMSG"]
