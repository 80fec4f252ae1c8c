"""A worker process that prints what no worker should, then does what its argument says.

What it does is the first line that it is told: `answer` commands, `die` at once, or `linger` without a word.
"""

import json
import sys
import time

NOISE = ("a library speaks", "5", "[1, 2]", "null", '{"values": 3}', '{"open": 7}', '{"answer": "x"}', "x" * 5_000_000)


def main() -> None:
    role = json.loads(sys.stdin.readline())
    for line in NOISE:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if role == "linger":
        time.sleep(600)
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    if role == "die":
        sys.exit(3)
    for line in sys.stdin:
        command = json.loads(line)
        if command.get("die"):
            sys.exit(4)
        sys.stdout.write(json.dumps({"answer": command["id"], "done": True}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
