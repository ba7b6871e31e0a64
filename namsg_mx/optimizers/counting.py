"""Counts updates as schedules need it: on several devices, after moves between them, and from saved states on.

MXNet counts the updates of each parameter by device, and has one ``num_update`` for all devices.
"""

from mxnet.optimizer import Optimizer


class CountingOptimizer(Optimizer):
    """An optimizer whose ``num_update`` is that of the most-updated parameter.

    Where replicas of a parameter take turns, it is the current device's. Devices that share no parameter, as those of a
    kvstore, have one ``num_update`` together. After states were loaded, each device starts from the saved counts, and
    counts by itself.
    """

    _least_num_update = 0   # what a program has set num_update to
    _counted = 0            # num_update as counting left it

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._device_id = 0               # the current one
        self._loaded_update_counts = {}   # by parameter index: those of saved states

    def _set_current_context(self, device_id):
        if self._all_index_update_counts.get(device_id) is self._index_update_count:
            return   # the device is the current one already
        # MXNet's counts would restart at 0 on a device other than where the states were saved. And with its num_update,
        # which all devices share, the second replica would be one update ahead in a schedule.
        self._keep_num_update()
        left, self._device_id = self._index_update_count, device_id
        # A loaded optimizer is on no device yet, and may have made updates without an Updater.
        counts = dict(self._loaded_update_counts) if self._all_index_update_counts else self._index_update_count
        self._all_index_update_counts.setdefault(device_id, counts)
        super()._set_current_context(device_id)
        here = self._index_update_count
        if here is not left and not here.keys().isdisjoint(left):
            self._count_as_here()

    def _update_count(self, index):
        self._keep_num_update()
        here = self._index_update_count
        new = [i for i in (index if isinstance(index, (list, tuple)) else [index]) if i not in here]
        if any(i in counts for counts in self._all_index_update_counts.values() if counts is not here for i in new):
            self._count_as_here()   # a replica's first update
        super()._update_count(index)
        self._counted = self.num_update

    def _keep_num_update(self):
        """If a program has set ``num_update``, or cleared the counts, ``num_update`` counts on all devices."""
        is_cleared = not (self._index_update_count or any(self._all_index_update_counts.values()))
        if is_cleared or self.num_update != self._counted:
            self._least_num_update = self._counted = self.num_update

    def _count_as_here(self):
        """Take ``num_update`` from the counts of the current device."""
        here = max(self._index_update_count.values(), default=self.begin_num_update)
        self.num_update = self._counted = max(self._least_num_update, here)

    def _take_counts_along(self, device_id):
        """Parameters have moved here from another device: count on from there."""
        self._keep_num_update()
        here = self._index_update_count
        before = self._all_index_update_counts.get(device_id, here)
        if before is not here:
            here.update({i: max(count, here.get(i, 0)) for i, count in before.items()})
            self._count_as_here()

    def _is_replica(self, index):
        """Whether another device has counted this update's gradient already: replicas see the same one."""
        name = self.idx2name.get(index)
        if isinstance(index, int) and name is not None and self.idx2name.get(index - 1) == name:
            return True   # Module gives replicas successive indices
        here = self._index_update_count
        return any(counts is not here and counts.get(index, 0) >= here[index]
                   for counts in self._all_index_update_counts.values())

    def __getstate__(self):
        self._keep_num_update()
        counts = dict(self._loaded_update_counts)
        for on_device in (self._index_update_count, *self._all_index_update_counts.values()):
            counts.update({i: max(count, counts.get(i, 0)) for i, count in on_device.items()})
        num_update = max(self._least_num_update, self.begin_num_update, *counts.values())
        return dict(super().__getstate__(), _loaded_update_counts=counts, _index_update_count=dict(counts),
                    _all_index_update_counts={}, num_update=num_update, _counted=num_update)
