"""The image of the Dockerfile, by podman or docker: the demo, and the pods of docs/kubernetes.yaml as containers."""

import json
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

IMAGE = "namsg-mx"   # `make test-container` builds it
MANIFEST = Path(__file__).parents[3] / "docs" / "kubernetes.yaml"
SESSION = uuid.uuid4()   # others may test here, too
NETWORK, ADDRESS = f"namsg-test-{SESSION.hex}", f"10.89.{128 + SESSION.int % 128}.{{}}"
ENGINE = next(filter(shutil.which, ("podman", "docker")), None)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def image():
    found = ENGINE and subprocess.run([ENGINE, "image", "inspect", IMAGE], capture_output=True, check=False)
    if not found or found.returncode:
        pytest.skip(f"needs podman or docker, and the image {IMAGE}, which `make test-container` makes")


def call(*arguments):
    ended = subprocess.run([ENGINE, *map(str, arguments)], text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_image_makes_the_demo_without_a_network(tmp_path):
    call("run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/namsg-mx/build", IMAGE)
    assert (tmp_path / "demo" / "figures" / "demo.svg").stat().st_size
    assert "| NAMSG | 3 |" in (tmp_path / "demo" / "tables" / "demo_epochs_to_loss.md").read_text()
    environments = [json.loads(path.read_text()) for path in tmp_path.rglob("environment.json")]
    assert len(environments) == 15
    assert all(isinstance(stage["dirty"], bool) for stages in environments for stage in stages)   # git is there


class Pods:
    """The pods of the manifest as containers of one network, with rendered digits in place of MNIST.

    A field that Kubernetes fills in, the pod's address, is filled in here; so is the name of pod 0, which Kubernetes'
    own name server knows.
    """

    def __init__(self, shared):
        _, job = yaml.safe_load_all(MANIFEST.read_text())
        self.names = [f"namsg-test-{SESSION.hex}-{index}" for index in range(job["spec"]["completions"])]
        pod = job["spec"]["template"]["spec"]
        self.container, = pod["containers"]
        self.shared = shared
        script, = self.container["args"]
        self.script = script.replace("configs/mnist_logistic.yaml", "configs/demo.yaml --method namsg --seeds 0")
        assert self.script != script

    def start(self):
        mount, = self.container["volumeMounts"]
        for index, name in enumerate(self.names):
            address = ADDRESS.format(10 + index)
            variables = {each["name"]: each.get("value", address) for each in self.container["env"]}
            variables["JOB_COMPLETION_INDEX"] = index
            call("run", "--detach", "--name", name, "--network", NETWORK, "--ip", address,
                 "--add-host", f"{variables['DMLC_PS_ROOT_URI']}:{ADDRESS.format(10)}",
                 "--volume", f"{self.shared}:{mount['mountPath']}", "--entrypoint", "",
                 *(word for variable in variables.items() for word in ("--env", "{}={}".format(*variable))),
                 self.container["image"], *self.container["command"], self.script)

    def wait(self):
        """Each pod's exit status and what it said."""
        return [(int(call("wait", name)), subprocess.run([ENGINE, "logs", name], text=True, stdout=subprocess.PIPE,
                                                         stderr=subprocess.STDOUT, check=True).stdout)
                for name in self.names]

    def remove(self):
        for name in self.names:
            subprocess.run([ENGINE, "rm", "--force", name], capture_output=True, check=False)


@pytest.fixture
def pods(tmp_path):
    pods = Pods(tmp_path)
    call("network", "create", "--subnet", ADDRESS.format("0/24"), NETWORK)
    yield pods
    pods.remove()
    call("network", "rm", NETWORK)


def test_the_manifests_pods_train_together_and_go_on_after_one_was_killed(pods, tmp_path):
    pods.start()
    while not list(tmp_path.rglob("checkpoint.zip")):   # after the first epoch
        assert call("inspect", "--format", "{{.State.Running}}", pods.names[-1]).strip() == "true", pods.wait()
    call("kill", pods.names[-1])
    ended = pods.wait()
    assert all(status != 0 for status, _ in ended), ended   # as with backoffLimit: 0, all of the job
    epochs, = tmp_path.rglob("epochs.csv")
    made = len(epochs.read_text().splitlines()) - 1
    assert 1 <= made < 10
    pods.remove()
    pods.start()
    ended = pods.wait()
    assert all(status == 0 for status, _ in ended), ended
    assert len(epochs.read_text().splitlines()) == 1 + 10
    assert len(json.loads((epochs.parent / "environment.json").read_text())) == 2   # it went on, not anew
