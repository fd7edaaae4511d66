"""What a network was trained on, as the manifest states it."""

import torch

from her2d.research.training.environment import training_environment


def test_a_cpu_is_stated_with_its_threads_and_without_cuda():
    found = training_environment(torch.device("cpu"))
    assert found.threads == torch.get_num_threads()
    assert found.device.startswith("cpu, ")
    assert (found.torch, found.cuda) == (torch.__version__, None)
