"""PyTorch's fused AMSGrad on one float32 array of gpu 0, for gpu_step.py, which runs this with a Python that has torch.

Each line on stdin is a number of elements and a number of steps; the answer is the milliseconds of a step.
"""

import sys

import torch


def milliseconds(elements, steps):
    weight = torch.randn(elements, device="cuda").requires_grad_()
    weight.grad = torch.randn(elements, device="cuda")
    optimizer = torch.optim.Adam([weight], lr=1e-3, amsgrad=True, fused=True)
    for _ in range(3):   # the first ones make the state
        optimizer.step()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(steps):
        optimizer.step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / steps


if __name__ == "__main__":
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        print(milliseconds(*map(int, line.split())), flush=True)
        torch.cuda.empty_cache()   # the other process needs room too
