"""PyTorch's fused AMSGrad on one float32 array of gpu 0: gpu_step.py's other worker, in a Python that has torch."""

import torch

from benchmarks.turns import FUSED_AMSGRAD, serve


def contenders(elements):
    """The step on so many elements."""
    weight = torch.randn(elements, device="cuda").requires_grad_()
    weight.grad = torch.randn(elements, device="cuda")
    optimizer = torch.optim.Adam([weight], lr=1e-3, amsgrad=True, fused=True)

    def seconds(steps):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(steps):
            optimizer.step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / steps / 1e3

    return {FUSED_AMSGRAD: seconds}


if __name__ == "__main__":
    serve({"torch": contenders})
