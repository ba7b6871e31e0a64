"""What the paper and its supplement print, to stand beside ours. Table A1's values stand in the configurations."""

from __future__ import annotations

# The paper's experiments, by the names of their configurations.
EXPERIMENTS = LOGISTIC, CNN, CIFAR = "mnist_logistic", "mnist_cnn", "cifar10_resnet20"

# Table A2: train loss of ResNet-20 at the 30th epoch, mean of 2 runs, by (alpha, beta2); beta1 is 0.9.
TABLE_A2 = {
    "adam": {(0.0005, 0.99): 0.3502, (0.001, 0.99): 0.3394, (0.002, 0.99): 0.4048, (0.005, 0.99): 0.5791,
             (0.01, 0.99): 0.7181, (0.0005, 0.999): 0.3538, (0.001, 0.999): 0.3415, (0.002, 0.999): 0.4125,
             (0.005, 0.999): 0.5757, (0.01, 0.999): 0.7455},
    "nadam": {(0.0005, 0.99): 0.3437, (0.001, 0.99): 0.3220, (0.002, 0.99): 0.3836, (0.005, 0.99): 0.5438,
              (0.01, 0.99): 0.6735, (0.0005, 0.999): 0.3507, (0.001, 0.999): 0.3214, (0.002, 0.999): 0.3814,
              (0.005, 0.999): 0.5293, (0.01, 0.999): 0.6854},
    "amsgrad": {(0.0005, 0.99): 0.3675, (0.001, 0.99): 0.3306, (0.002, 0.99): 0.3770, (0.005, 0.99): 0.5156,
                (0.01, 0.99): 0.6513, (0.0005, 0.999): 0.3363, (0.001, 0.999): 0.3310, (0.002, 0.999): 0.4031,
                (0.005, 0.999): 0.5889, (0.01, 0.999): 0.8575},
    "namsg": {(0.0005, 0.99): 0.3576, (0.001, 0.99): 0.3152, (0.002, 0.99): 0.3429, (0.005, 0.99): 0.4831,
              (0.01, 0.99): 0.6137, (0.0005, 0.999): 0.3170, (0.001, 0.999): 0.3162, (0.002, 0.999): 0.3763,
              (0.005, 0.999): 0.5570, (0.01, 0.999): 0.7102},
}

# Table A3: test accuracy of ResNet-20, 5 runs: (mean, std) of the last 5 epochs' mean, and of the best of each run.
TABLE_A3 = {
    "sgd": ((0.9068, 0.0024), (0.9088, 0.0022)), "adam": ((0.9052, 0.0026), (0.9073, 0.0033)),
    "nadam": ((0.9053, 0.0020), (0.9070, 0.0022)), "amsgrad": ((0.9026, 0.0027), (0.9043, 0.0026)),
    "namsg": ((0.9033, 0.0020), (0.9048, 0.0020)), "swnts": ((0.9092, 0.0024), (0.9109, 0.0025)),
    "namsg1": ((0.9082, 0.0015), (0.9102, 0.0010)), "swnts1": ((0.9121, 0.0016), (0.9145, 0.0013)),
    "amsb1": ((0.8969, 0.0017), (0.8986, 0.0078)), "amsb2": ((0.9101, 0.0025), (0.9122, 0.0024)),
    "namsb1": ((0.8976, 0.0037), (0.8997, 0.0035)), "namsb2": ((0.9113, 0.0019), (0.9145, 0.0014)),
}


def printed_name(method: str) -> str:
    """The name of a method in these tables; the paper's NADAM is very likely MXNet's own, and stands for both of ours.
    """
    return "nadam" if method == "nadam_mxnet" else method
