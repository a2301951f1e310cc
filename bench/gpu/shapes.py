"""The training steps that are compared: shapes of models, and batches. Weights and text are random; nothing is fetched."""

# config.json of each; a batch of `sequences` of `shortest` to `longest` tokens; steps of hone, if not as many as it is told
BERT_BASE = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 30522, "hidden_size": 768,
             "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
             "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
             "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0}
SETUPS = {
    # As people fine-tune: so little work a step that launches count. More steps, so that sizes come back.
    "BERT-base, MNLI, 32 pairs": {"config": BERT_BASE, "sequences": 32, "shortest": 20, "longest": 60, "steps": 120},
    "BERT-base, MNLI": {"config": BERT_BASE, "sequences": 256, "shortest": 20, "longest": 60, "steps": 120},
    "MiniLM-L6, MNLI": {
        "config": {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 30522, "hidden_size": 384,
                   "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "hidden_act": "gelu",
                   "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
                   "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0},
        "sequences": 256, "shortest": 20, "longest": 60, "steps": 120},
    "GPT-2 124M, T=1024": {
        "config": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257, "n_embd": 768, "n_layer": 12,
                   "n_head": 12, "n_positions": 1024, "n_inner": 3072, "activation_function": "gelu_new", "resid_pdrop": 0.0,
                   "embd_pdrop": 0.0, "attn_pdrop": 0.0, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
                   "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0},
        "sequences": 16, "shortest": 1024, "longest": 1024},
    "SmolLM2-360M, T=2048": {
        "config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 960,
                   "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5, "intermediate_size": 2560,
                   "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
                   "initializer_range": 0.02, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
                   "bos_token_id": None, "eos_token_id": 0},
        "sequences": 8, "shortest": 2048, "longest": 2048},
    "Llama-3.2-1B, T=2048": {
        "config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 2048,
                   "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                   "intermediate_size": 8192, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
                   "rope_theta": 500000.0, "initializer_range": 0.02, "tie_word_embeddings": True, "attention_bias": False,
                   "mlp_bias": False, "bos_token_id": None, "eos_token_id": 0},
        "sequences": 4, "shortest": 2048, "longest": 2048},
}
SMALLER = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_key_value_heads": 1,
           "vocab_size": 800, "n_embd": 48, "n_layer": 2, "n_head": 2, "n_inner": 64, "head_dim": 24, "max_position_embeddings": 64,
           "n_positions": 64}


def setups(rehearse):
    """name -> setup; for a rehearsal of a size that a CPU gets through."""
    if not rehearse:
        return SETUPS
    small = {}
    for name, setup in SETUPS.items():
        config = {key: SMALLER.get(key, value) for key, value in setup["config"].items()}
        small[name] = dict(setup, config=config, sequences=4, shortest=min(setup["shortest"], 32), longest=min(setup["longest"], 32))
    return small


def is_pairs(setup):
    return setup["config"]["model_type"] == "bert"


def lengths(setup, batches):
    """Tokens of every example of so many batches, the same for everybody."""
    spread = setup["longest"] - setup["shortest"] + 1
    return [setup["shortest"] + i * 7919 % spread for i in range(batches * setup["sequences"])]
