"""hone chat on a tiny Llama, through pipes and a terminal: turns, the context's end, Ctrl-C."""
import json, os, pty, select, signal, subprocess, sys, time
sys.path.insert(0, os.path.dirname(__file__))
from tiny import *
from test_generate import make_llama

def chat(model, *words, input="", check=0):
    return hone("chat", model, "--template", "plain", *words, input=input, check=check)


def an_answer_is_what_generate_gives(folder):
    model = make_llama(os.path.join(folder, "model"))
    told = json.loads(hone("generate", model, "--chat", "--template", "plain", "--prompt", "the car", "--max-tokens", "9", "--json").stdout)
    done = chat(model, "--max-tokens", "9", input="the car\n")
    assert done.stdout == told["text"] + ("" if told["text"].endswith("\n") else "\n"), (done.stdout, told)
    assert "new tokens" in done.stderr
    assert chat(model, "--max-tokens", "9", input="the car").stdout == done.stdout # no newline at the end
    assert chat(model, "--max-tokens", "9", input="\n\r\nthe car\r\n\n").stdout == done.stdout # empty lines say nothing
    assert chat(model).stdout == ""
    prompt = lambda stderr: int(stderr.split("prompt ")[1].split()[0])
    twice = chat(model, "--max-tokens", "9", input="the car\n/new\nthe car\n")
    assert twice.stdout == done.stdout * 2
    assert prompt(twice.stderr) < 2 * prompt(done.stderr) # what is there already is not read again


def turns_are_remembered(folder):
    model = make_llama(os.path.join(folder, "model"), positions=400)
    first = chat(model, "--max-tokens", "9", input="the car\n").stdout
    both = chat(model, "--max-tokens", "9", input="the car\na bus\n").stdout
    alone = chat(model, "--max-tokens", "9", input="a bus\n").stdout
    assert both.startswith(first) and both[len(first):] != alone
    drawn = ["--temperature", "1", "--max-tokens", "9"]
    assert chat(model, *drawn, "--seed", "3", input="a\nb\n").stdout == chat(model, *drawn, "--seed", "3", input="a\nb\n").stdout
    assert chat(model, *drawn, "--seed", "3", input="a\nb\n").stdout != chat(model, *drawn, "--seed", "4", input="a\nb\n").stdout


def a_full_context_lets_the_oldest_go(folder):
    model = make_llama(os.path.join(folder, "model"))
    done = chat(model, "--max-tokens", "20", input="the car is red and blue\n" * 8)
    assert "oldest question and answer" in done.stderr
    done = chat(model, "--max-tokens", "5", input="word " * 300 + "\nthe car\n")
    assert "longer than --context" in done.stderr
    assert done.stdout == chat(model, "--max-tokens", "5", input="the car\n").stdout


def templates_are_told_and_refused(folder):
    model = make_llama(os.path.join(folder, "model"))
    assert "chat template" in hone("chat", model, input="a\n", check=None).stderr
    assert "nosuch" in hone("chat", model, "--template", "nosuch", input="a\n", check=None).stderr
    assert "--batch" in hone("chat", model, "--batch", "2", check=2).stderr
    assert "--temperature above 0" in hone("chat", model, "--template", "plain", "--top-k", "3", input="a\n", check=2).stderr
    assert "encoder" in hone("chat", make_model(os.path.join(folder, "bert")), input="a\n", check=1).stderr


def long_talker(folder):
    return make_llama(os.path.join(folder, "model"), positions=30000), ["--template", "plain", "--context", "30000", "--max-tokens", "29000"]


def an_interrupt_ends_the_answer_only(folder):
    model, words = long_talker(folder)
    talk = subprocess.Popen([HONE, "chat", model, *words, "train.threads=1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    answers = []
    for message in (b"the car\n", b"a bus\n"):
        talk.stdin.write(message)
        talk.stdin.flush()
        got = os.read(talk.stdout.fileno(), 1) # it has begun
        talk.send_signal(signal.SIGINT)
        while not got.endswith(b"\n") or select.select([talk.stdout], [], [], 0.5)[0]:
            got += os.read(talk.stdout.fileno(), 65536)
        answers.append(got)
    assert talk.poll() is None and len(answers) == 2
    talk.stdin.close()
    assert talk.wait(20) == 0, talk.stderr.read()
    assert b"new tokens" in talk.stderr.read()


def interrupted_twice_it_ends(folder):
    model, words = long_talker(folder)
    main_end, end = pty.openpty()
    talk = subprocess.Popen([HONE, "chat", model, *words, "train.threads=1"], stdin=end, stdout=end, stderr=end)
    os.close(end)
    seen = b""
    while b"> " not in seen:
        seen += os.read(main_end, 4096)
    assert b"template plain" in seen, seen
    talk.send_signal(signal.SIGINT)
    seen = b""
    while b"again ends" not in seen:
        seen += os.read(main_end, 4096)
    assert talk.poll() is None
    talk.send_signal(signal.SIGINT)
    assert talk.wait(20) == 0
    os.close(main_end)


main(an_answer_is_what_generate_gives, turns_are_remembered, a_full_context_lets_the_oldest_go, templates_are_told_and_refused,
     an_interrupt_ends_the_answer_only, interrupted_twice_it_ends)
