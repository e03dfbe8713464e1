"""Prints what was tried, with its hash, and what could not be; exits 1 where two differ."""
import sys

from torch_port.native.elsewhere import differing, everything


def main() -> int:
    tried = []
    for one in everything():
        tried.append(one)
        print(f"{one.group:8}  {one.what:38}  {one.hash or 'not tried: ' + one.why}", flush=True)
    wrong = differing(tried)
    for one in wrong:
        print(f"other bits: {one.group}, {one.what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
