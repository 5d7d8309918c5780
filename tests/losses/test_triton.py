"""The Triton form of the compiled loops: generated and compiled to machine code for a GPU that need not be there.

Nothing can be run that way. The compiler is told of a device by standing in for what it asks the driver.
"""

import contextlib
import importlib.util
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch.utils import _pytree as tree

from dkp.losses import kernels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(not torch.__version__.startswith("2.14."), reason="reaches into the compiler of torch 2.14"),
]

CAPABILITY = 90
H100 = SimpleNamespace(
    name="H100",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 * 2**30,
    L2_cache_size=50 * 2**20,
    shared_memory_per_block=48 * 2**10,
    shared_memory_per_block_optin=227 * 2**10,
    shared_memory_per_multiprocessor=228 * 2**10,
    gcnArchName="",
)

KERNELS = {
    "peaks": kernels.peaks,
    "row_sums": partial(kernels.row_sums, form="point_line"),
    "column_sums": partial(kernels.column_sums, form="point_line"),
}


@pytest.fixture
def pretended_device():
    """A GPU of compute capability 9.0, as far as the compiler asks."""
    # What the compiler consists of is imported first: a name that it took from a stand-in would outlive this fixture.
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor import compile_fx, scheduler
    from torch._inductor.runtime import autotune_cache, triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    target = GPUTarget("cuda", CAPABILITY, H100.warp_size)
    device = torch.device("cuda:0")
    answers = {
        (CudaInterface, "is_available"): True,
        (CudaInterface, "get_device_properties"): H100,
        (CudaInterface.Worker, "get_device_properties"): H100,
        (CudaInterface, "get_compute_capability"): CAPABILITY,
        (CudaInterface, "current_device"): 0,
        (torch.cuda, "is_available"): True,
        (torch.cuda, "device_count"): 1,
        (torch.cuda, "current_device"): 0,
        (torch.cuda, "get_device_properties"): H100,
        (torch.cuda, "get_device_capability"): (9, 0),
        (autotune_cache, "has_triton"): True,
        (compile_fx, "has_triton"): True,
        (scheduler, "has_triton"): True,
        (torch.utils._triton, "has_triton"): True,
        (triton_helpers, "set_driver_to_gpu"): None,
    }
    stands_in = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: 0, get_active_torch_device=lambda: device
    )
    with contextlib.ExitStack() as stack:
        for (owner, name), answer in answers.items():
            stack.enter_context(mock.patch.object(owner, name, lambda *_, answer=answer: answer))
        stack.enter_context(mock.patch.object(driver, "_active", stands_in))
        yield device


def generated(function, example: list, device: torch.device) -> str:
    """The code that the compiler writes for a function and arguments on a device."""
    from torch._inductor.config import patch
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    arguments, form = tree.tree_flatten(example)
    with FakeTensorMode(shape_env=ShapeEnv()):
        arguments = [torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=device) for one in arguments]
    graph = make_fx(
        lambda *given: tuple(tree.tree_leaves(function(*tree.tree_unflatten(given, form)))),
        decomposition_table=select_decomp_table(),
        tracing_mode="symbolic",
    )(*arguments)
    inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    mode = next(one.fake_mode for one in inputs if isinstance(one, torch.Tensor))
    with patch({**kernels._OPTIONS, "compile_threads": 1}), V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
        lowering = GraphLowering(graph, example_inputs=inputs, shape_env=mode.shape_env)
        with V.set_graph_handler(lowering):
            lowering.run(*inputs)
            return lowering.codegen()[0].value


@pytest.mark.parametrize("name", KERNELS)
def test_the_triton_form_compiles_to_machine_code(name, pretended_device, tmp_path: Path):
    form = None if name == "peaks" else "point_line"
    code = generated(KERNELS[name], kernels._example(name, form, 3, torch.device("cpu")), pretended_device)
    found = re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)'''", code, re.DOTALL)
    assert found
    for label, source in found:
        path = tmp_path / f"{label}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(label, path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        kernel = getattr(loaded, label)
        kernel.precompile(warm_cache_only=True)
        assert kernel.compile_results
        for result in kernel.compile_results:
            assert result.kernel.cubin_raw.startswith(b"\x7fELF")
