"""Exempting parameters from weight decay."""

from typing import Any, Iterable, List, Mapping, Union


def exempt_from_decay(params: Mapping[str, Any],
                      suffixes: Union[str, Iterable[str]] = ("bias", "gamma", "beta")) -> List[str]:
    """Set ``wd_mult = 0`` for biases and BatchNorm's gamma and beta. Gluon's Trainer decays them by default.

    Parameters
    ----------
    params : mxnet.gluon.ParameterDict or dict of str to Parameter
        ``net.collect_params()``; changed in place. A Trainer reads ``wd_mult`` at each step. With updates on the
        servers of a kvstore, `namsg_mx.distributed.DistributedTrainer` sends it once; gluon.Trainer never does.
    suffixes : str or tuple of str
        Name endings of the parameters to exempt.

    Returns
    -------
    list of str
        Names of the exempted parameters, in the order of ``params``.

    Raises
    ------
    TypeError
        If ``params`` has no names, as a network or a list of parameters has none.

    Example
    -------
    >>> net = gluon.nn.Dense(2, in_units=3, prefix='dense_')
    >>> exempt_from_decay(net.collect_params())
    ['dense_bias']
    >>> net.weight.wd_mult, net.bias.wd_mult
    (1.0, 0.0)
    """
    if not hasattr(params, "keys"):
        raise TypeError("params: must have names; give a network's collect_params()")
    suffixes = suffixes if isinstance(suffixes, str) else tuple(suffixes)
    exempted = [name for name in params if name.endswith(suffixes)]
    for name in exempted:
        params[name].wd_mult = 0.0
    return exempted
