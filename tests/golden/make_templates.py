"""Makes tests/golden/template: chat templates as models publish them (NAME.jinja), and conversations.json: conversations,
and of each template the text of every conversation without and with the prompt of an answer behind it, as Jinja prints it
when transformers sets it up (null: it refuses). tests/data/test_template.c reads both; it needs neither Python nor Jinja.

    python tests/golden/make_templates.py TRL [SMOLLM2]

TRL: the folder of an installed trl package, whose chat_templates/ are copies of the models'. SMOLLM2: a Hugging Face folder
of SmolLM2-Instruct. Texts that stand in neither are below.
"""
import json
import pathlib
import sys

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent / "template"

# Each: which of hone's templates it is (None: not one that hone knows), and where the text is from.
TEXTS = {
    "smollm2": ("chatml", "smollm2"),
    "qwen2_5": ("chatml", "trl"),
    "qwen3_instruct_2507": ("chatml", "trl"),
    "qwen3": (None, "trl"),
    "llama3": ("llama3", "trl"),
    "llama3_1": ("llama3.1", "trl"),
    "gemma": ("gemma", "trl"),
    "gemma3": ("gemma", "trl"),
    "phi3": (None, "trl"),
    # teknium/OpenHermes-2.5 and many others
    "chatml": ("chatml", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
               "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    # the same in another spelling
    "chatml_spelled": ("chatml", "{#- a comment -#}\n{%- for message in messages -%}\n    {{- \"<|im_start|>\" + message.role + "
                       "\"\\n\" }}{{ message.content }}<|im_end|>{{ '\\n' -}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n"
                       "    {{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}\n"),
    "chatml_indented": ("chatml", "{% for message in messages %}\n{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                        "'<|im_end|>' }}\n    {% endfor %}\n    {% if add_generation_prompt %}\n{{ '<|im_start|>assistant' }}\n\t"
                        "{% endif %}\n"),
    "chatml_blank": (None, "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                     "'<|im_end|>' + '\n'}} {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    # meta-llama/Llama-2-7b-chat-hf
    "llama2": ("llama2", "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
               "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
               "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
               "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
               "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
               "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
               "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
               "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"),
    # HuggingFaceH4/zephyr-7b-beta, TinyLlama/TinyLlama-1.1B-Chat-v1.0
    "zephyr": ("zephyr", "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "
               "message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + "
               "message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + "
               "message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
               "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"),
    # mistralai/Mistral-7B-Instruct-v0.2
    "mistral": ("mistral", "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 "
                "== 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
                "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == "
                "'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles "
                "are supported!') }}{% endif %}{% endfor %}"),
    # one word off
    "chatml_other": (None, "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                     "'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
}
S, U, A = "system", "user", "assistant"
CONVERSATIONS = [
    [(U, "Hello")],
    [(S, "You are terse."), (U, "Hello")],
    [(U, "Hello"), (A, "Hi there"), (U, "Who are you?")],
    [(S, "You are terse."), (U, " Two \nlines. "), (A, "\n\nOne. "), (U, "\u00e9\u00a0\u4e16\u754c "), (A, "\U0001f642")],
    [(U, "first"), (U, "second")],
    [(U, ""), (A, "")],
]


def stop(message):
    raise TemplateError(message)


def main():
    trl = pathlib.Path(sys.argv[1]) / "chat_templates"
    smollm2 = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    HERE.mkdir(exist_ok=True)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = stop
    templates = []
    for name, (shape, text) in TEXTS.items():
        path = HERE / f"{name}.jinja"
        if text == "trl":
            path.write_text((trl / path.name).read_text())
        elif text == "smollm2":
            if smollm2:
                path.write_text((smollm2 / "chat_template.jinja").read_text())
        else:
            path.write_text(text)
        template = environment.from_string(path.read_text())
        texts = []
        for conversation in CONVERSATIONS if shape else []:
            messages = [{"role": role, "content": content} for role, content in conversation]
            for prompt in [False, True]:
                try:
                    texts.append(template.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"))
                except TemplateError:
                    texts.append(None)
        templates.append({"name": name, "shape": shape, "texts": texts})
    lines = lambda items: ",\n  ".join(json.dumps(item) for item in items)
    (HERE / "conversations.json").write_text('{"conversations": [\n  %s],\n "templates": [\n  %s]}\n'
                                             % (lines(CONVERSATIONS), lines(templates)))


main()
