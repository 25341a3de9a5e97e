"""What `auto` stands for, and what is said where a choice is a bad one."""

import logging

import pytest
import torch
from sae_stitching.base import hardware
from sae_stitching.base.errors import StudyError

INTEL_AMX = {"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}
AVX512 = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
AVX2 = {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}
ARM = {"neon": True, "bf16": True}
ARM_WITHOUT = {"neon": True, "bf16": False}


@pytest.fixture
def processor(monkeypatch):
    def set_to(can, onednn=True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)

    return set_to


@pytest.mark.parametrize(
    ("can", "chosen"),
    [
        (INTEL_AMX, "bfloat16"),
        (AVX512, "float32"),
        (AVX2, "float32"),
        (ARM, "bfloat16"),
        (ARM_WITHOUT, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(processor, caplog, can, chosen):
    processor(can)
    with caplog.at_level(logging.INFO):
        assert hardware.dtype("auto", "cpu", "model.dtype") == chosen
    assert caplog.messages == [f"model.dtype: {chosen}"]


def test_without_onednn_the_instructions_are_not_used(processor):
    processor(ARM, onednn=False)
    assert hardware.dtype("auto", "cpu", "model.dtype") == "float32"


def test_what_is_asked_for_is_given(processor, caplog):
    processor(INTEL_AMX)
    assert hardware.dtype("float32", "cpu", "model.dtype") == "float32"
    assert hardware.dtype("bfloat16", "cpu", "model.dtype") == "bfloat16"
    assert not caplog.messages


def test_slow_bfloat16_is_given_with_a_warning(processor, caplog):
    processor(AVX2)
    assert hardware.dtype("bfloat16", "cpu", "training.product_dtype") == "bfloat16"
    assert caplog.messages == [
        "training.product_dtype: bfloat16, for which the device has no instructions; float32 "
        "or auto is many times faster here"
    ]


def test_capabilities_are_those_that_torch_names():
    # The names that are looked up must not have been renamed by another version.
    can = torch.cpu.get_capabilities()
    if can["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16"} <= can.keys()
    else:
        assert "bf16" in can


def test_auto_device_is_cuda_where_there_is_one(monkeypatch):
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert hardware.device("auto", "training.device") == expected
    assert hardware.device("cpu", "training.device") == "cpu"


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r"^training\.device: cuda, but PyTorch sees"):
        hardware.device("cuda", "training.device")
