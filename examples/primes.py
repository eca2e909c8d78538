"""A module of one's own, for sdk_deployment.py."""

import os


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def greeting() -> str:
    return f"{os.environ['GREETING']}; {is_prime(1_000_003)}"


def first_line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()
