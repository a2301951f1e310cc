"""Runs the comparison with TRL on doubles whose figures are known."""
import tempfile

from doubles import compare, near, report, write_doubles
import compare_sft

MODEL = {"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
         "vocab_size": 100}
LAYERS, HEAD = 2 * (8 * 4 * 6 + 3 * 8 * 32), 100 * 8


def main():
    with tempfile.TemporaryDirectory() as folder:
        write_doubles(folder, MODEL)
        result = compare(folder, "compare_sft.py", "--modes", "full,lora,hone-fp32,hone-bf16,trl-default,trl-fp32", *compare_sft.SAMPLE)
        assert result.returncode == 0, result.stderr
        found = report(folder, "sft")
        table = found["table"]
        assert found["rows"] == 160 and list(table) == ["hone fp32", "hone bf16", "TRL default", "TRL fp32", "hone LoRA fp32",
                                                        "hone LoRA bf16", "TRL LoRA default", "TRL LoRA fp32"], list(table)
        near(table["hone fp32"]["tokens_per_second"], 320)
        near(table["TRL fp32"]["times_fp32"], 1)
        near(table["TRL LoRA fp32"]["times_bf16"], 2)
        near(table["hone fp32"]["of_ceiling"], 320 * 6 * (LAYERS + HEAD / 4) / 100e9)
        near(table["hone LoRA bf16"]["of_ceiling"], 640 * 4 * (LAYERS + HEAD / 4) / 100e9)
        near(table["hone bf16"]["memory_bf16"], 1)
        assert 0 < table["TRL fp32"]["memory_fp32"] < 100
        near(found["best"]["hone LoRA bf16"]["times"], 2)
        assert list(found["best"]) == ["hone fp32", "hone bf16", "hone LoRA fp32", "hone LoRA bf16"]
        assert found["best"]["hone fp32"]["peers"] == ["TRL default"], "of equal ones the first"
        assert "pairs/s" not in result.stdout and "TRL LoRA fp32" in result.stdout, result.stdout
    print("the table of the doubles is right")


if __name__ == "__main__":
    main()
