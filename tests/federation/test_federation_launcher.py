"""Job processes are forks; what must differ between them does."""

import subprocess
import sys

SCRIPT = """
import multiprocessing

import ftl.federation.nvflare_app
from ftl.crypto import OuScheme, random_scalar


def draw(answers):
    answers.put((OuScheme().generate().public(), bytes(random_scalar())))


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ftl.federation.nvflare_app"])
    answers = context.SimpleQueue()
    drawn = []
    for _ in range(2):
        process = context.Process(target=draw, args=(answers,))
        process.start()
        drawn.append(answers.get())
        process.join()
    (first, second) = drawn
    assert first[0] != second[0], "the same homomorphic key"
    assert first[1] != second[1], "the same curve scalar"
    print("different")
"""


def test_two_jobs_forked_from_one_process_draw_different_keys(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "different", done.stderr
