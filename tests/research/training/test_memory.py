"""How much memory a training takes is known before it starts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from typer.testing import CliRunner

from her2d.cli.app import app
from her2d.research.networks.build import build_classifier
from her2d.research.training.hardware import HardwareError, find_hardware, loader_workers
from her2d.research.training.memory import GB, Need, check_memory, needed
from her2d.research.training.recipe import NetworkRecipe, Recipe, read_recipe

NARROW = NetworkRecipe(width_multiplier=0.125, crop=64, accelerator="cpu")


def kept_by_a_real_step(tiles: int) -> int:
    """Bytes that autograd keeps for the backward pass, without the weights."""
    network = build_classifier("resnet18", width_multiplier=0.125).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(
            network(torch.rand(tiles, 3, 64, 64)), torch.zeros(tiles, dtype=torch.int64)
        )
    assert loss.grad_fn is not None
    return sum(kept.values()) + 2 * max(kept.values())


def test_a_tile_takes_what_a_real_step_keeps_for_it():
    (need,) = needed(Recipe(classifier=NARROW), (), ["resnet18"])
    assert need.per_tile == (kept_by_a_real_step(12) - kept_by_a_real_step(8)) // 4


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_takes_less(precision):
    (full,) = needed(Recipe(segmenter=NARROW), ["unet"], ())
    half = NARROW.model_copy(update={"precision": precision})
    (found,) = needed(Recipe(segmenter=half), ["unet"], ())
    assert found.per_tile < 0.7 * full.per_tile


@pytest.mark.slow
def test_the_papers_batch_of_resnet152_does_not_fit_one_card_of_48_gb_and_fits_two():
    one, two = (
        needed(Recipe(classifier=NetworkRecipe(batch=64, devices=count)), (), ["resnet152"])[0]
        for count in (1, 2)
    )
    assert (one.batch, two.batch) == (64, 32)
    assert one.memory > 48 * GB > two.memory


needs = st.builds(
    Need,
    st.just("resnet18"),
    st.just("classifier"),
    batch=st.integers(2, 512),
    fixed=st.integers(0, 4 * GB),
    per_tile=st.integers(1, GB),
    flop_per_tile=st.just(1),
)


@settings(max_examples=200)
@given(needs, st.integers(0, 100 * GB))
def test_the_most_tiles_fit_and_one_more_does_not(need, free):
    most = need.most_tiles(free)
    assert most == 0 or need.fixed + most * need.per_tile <= free
    assert need.fixed + (most + 1) * need.per_tile > free


def test_a_network_that_does_not_fit_is_refused_with_a_batch_that_does():
    free = find_hardware(NARROW).free
    need = Need("resnet18", "classifier", batch=64, fixed=0, per_tile=free // 20, flop_per_tile=1)
    said = r"resnet18 with 64 tiles .* Try --set classifier.batch=(19|2\d), or --set classifier.pr"
    with pytest.raises(HardwareError, match=said):
        check_memory([need], Recipe(classifier=NARROW))


@pytest.mark.slow
def test_the_command_names_what_each_network_takes_and_refuses_what_is_too_large():
    given = ["--set", "segmenters=['unet']", "--set", "classifiers=['resnet18']"]
    small = ["--set", "segmenter.batch=2", "--set", "classifier.batch=2"]
    found = CliRunner().invoke(app, ["train", "check", *given, *small])
    assert found.exit_code == 0, found.output
    assert "unet" in found.output
    huge = CliRunner().invoke(app, ["train", "check", *given, "--set", "segmenter.batch=100000"])
    assert huge.exit_code == 1
    assert "Try --set segmenter.batch=" in str(huge.exception) + huge.output


def test_all_gpus_are_taken_and_the_cpus_are_divided_between_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("her2d.research.training.hardware.usable_cpus", lambda: 16)
    (need,) = needed(Recipe(classifier=NetworkRecipe(batch=64)), (), ["resnet18"])
    assert need.batch == 16
    assert loader_workers(NetworkRecipe()) == 3
    with pytest.raises(HardwareError, match="asks for 5 GPUs, and there are 4"):
        find_hardware(NetworkRecipe(devices=5))


def test_a_single_cpu_reads_tiles_in_the_process_that_trains(monkeypatch):
    monkeypatch.setattr("her2d.research.training.hardware.usable_cpus", lambda: 1)
    assert loader_workers(NetworkRecipe(accelerator="cpu")) == 0


def test_a_precision_in_a_setting_needs_no_quotes():
    assert read_recipe(None, ("classifier.precision=16-mixed",)).classifier.precision == "16-mixed"
