"""Faults that test_graph must notice; ../mutants.py has the columns."""
FAULTS = [
    ("cuda/backend.c", "cudaStreamCaptureModeThreadLocal", "cudaStreamCaptureModeGlobal", 0, "other threads spoil a graph"),
    ("cuda/backend.c", "if (device->synchronous) return hn_fail(error, HN_ERR_UNSUPPORTED", "if (false) return hn_fail(error, HN_ERR_UNSUPPORTED", 0,
     "waiting is captured"),
    ("cuda/backend.c", "keep(state, \"launching a graph\", cudaGraphLaunch(graph, state->device.stream));", "", 0, "never launched"),
    ("cuda/backend.c", "keep(state, \"launching a graph\", cudaGraphLaunch(graph, state->device.stream));",
     "(void)cudaGraphLaunch(graph, state->device.stream);", 0, "a refused launch is forgotten"),
    ("cuda/backend.c", "state->device.operation = \"a graph\";", "", 0, "a graph is not named"),
    ("cuda/backend.c", "if (status == cudaSuccess) return launched;", "return launched;", 0, "a failure without a message"),
    ("cuda/backend.c", "if (graph) keep(state_of(backend), \"freeing a graph\"", "keep(state_of(backend), \"freeing a graph\"", 0, "no graph is freed"),
]
