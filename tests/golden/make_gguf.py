"""Writes tests/formats/gguf/quantised.gguf and its values as the reference gives them, quantised.safetensors
(pip install gguf numpy safetensors; made with gguf 0.19.0). Run in the root of the repository.

Blocks are random bytes, so that every bit of a layout counts, with scales that are finite fp16 numbers."""
import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFValueType as Value, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

FOLDER = "tests/formats/gguf/"
# Where the fp16 numbers of a block stand.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
ROWS = 3
random = np.random.default_rng(7)
writer = GGUFWriter(FOLDER + "quantised.gguf", "none")
for name, kind, value in [
    ("a.u8", Value.UINT8, 255), ("a.i8", Value.INT8, -128), ("a.u16", Value.UINT16, 65535), ("a.i16", Value.INT16, -32768),
    ("a.u32", Value.UINT32, 2**32 - 1), ("a.i32", Value.INT32, -2**31), ("a.u64", Value.UINT64, 2**63 - 1),
    ("a.i64", Value.INT64, -2**63), ("a.f32", Value.FLOAT32, 0.1), ("a.f64", Value.FLOAT64, 0.1),
    ("a.bool", Value.BOOL, True), ("a.string", Value.STRING, "naïve"),
]:
    writer.add_key_value(name, value, kind)
writer.add_array("a.strings", ["one", "", "▁three"])
writer.add_array("a.ints", [3, -1, 2])
writer.add_array("a.doubles", [0.5, -1.5])

expected = {}
for name in ["F32", "F16", "BF16", *SCALES]:
    kind = Type[name]
    elements, size = GGML_QUANT_SIZES[kind]
    if name == "F32":
        data = random.standard_normal((ROWS, 40), dtype=np.float32)
    elif name == "F16":
        data = random.standard_normal((ROWS, 40), dtype=np.float32).astype(np.float16)
        data[0, :6] = [0.0, -0.0, 65504, 2**-24, -(2**-15), 1.0]
    elif name == "BF16":
        data = random.integers(0, 2**16, (ROWS, 40), dtype=np.uint16)
        data[(data & 0x7F80) == 0x7F80] = 0x8001
        data = data.view(np.uint8)
    else:
        blocks = 1 if elements == 256 else 2
        data = random.integers(0, 256, (ROWS, blocks, size), dtype=np.uint8)
        for at in SCALES[name]:
            scale = random.standard_normal((ROWS, blocks, 1)).astype(np.float16)
            scale[0, 0] = 2**-20  # below the normal ones
            data[:, :, at : at + 2] = scale.view(np.uint8)
        data = data.reshape(ROWS, blocks * size)
    expected[name] = np.ascontiguousarray(dequantize(data, kind), dtype=np.float32)
    assert np.isfinite(expected[name]).all()
    writer.add_tensor(name, data, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(expected, FOLDER + "quantised.safetensors")
