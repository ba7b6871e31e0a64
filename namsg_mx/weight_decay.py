"""Which parameters weight decay leaves alone."""

from typing import Any, Iterable, List, Mapping, Union


def exempt_from_decay(params: Mapping[str, Any],
                      suffixes: Union[str, Iterable[str]] = ("bias", "gamma", "beta")) -> List[str]:
    """Set ``wd_mult = 0`` on biases and on BatchNorm's gamma and beta, which Gluon's Trainer decays like all others.

    Parameters
    ----------
    params : mxnet.gluon.ParameterDict or dict of str to Parameter
        As from ``net.collect_params()``; changed in place. A Trainer looks ``wd_mult`` up at each step. With updates
        on the servers of a kvstore, `namsg_mx.distributed.DistributedTrainer` sends it once; gluon.Trainer does not.
    suffixes : str or tuple of str
        Ends of the names of the parameters to exempt.

    Returns
    -------
    list of str
        Names of the exempted parameters, in the order of ``params``.

    Example
    -------
    >>> net = gluon.nn.Dense(2, in_units=3, prefix='dense_')
    >>> exempt_from_decay(net.collect_params())
    ['dense_bias']
    >>> net.weight.wd_mult, net.bias.wd_mult
    (1.0, 0.0)
    """
    suffixes = suffixes if isinstance(suffixes, str) else tuple(suffixes)
    exempted = [name for name in params if name.endswith(suffixes)]
    for name in exempted:
        params[name].wd_mult = 0.0
    return exempted
