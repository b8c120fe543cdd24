"""Checks the recipe for Spack without Spack: its syntax, and that it names the cargo features and
the Rust version of Cargo.toml.

Usage: python3 ci/spack/check.py     in the repository's root
"""

import ast
import sys
import tomllib
from pathlib import Path

RECIPE = Path("ci/spack/packages/diaspora-octopus/package.py")


def texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def calls(tree: ast.AST, name: str) -> list[str]:
    """The first argument of each call of a directive."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name)
    return [ast.literal_eval(node.args[0]) for node in found]


def main() -> int:
    tree = ast.parse(RECIPE.read_text(), str(RECIPE))
    cargo = tomllib.loads(Path("Cargo.toml").read_text())
    features = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "features")
    named = {text for text in texts(features) if text in cargo["features"]}
    optional = set(calls(tree, "variant"))
    problems = []
    if missing := set(cargo["features"]["default"]) - named:
        problems.append(f"features() lacks the default features {sorted(missing)}")
    if unknown := optional - named:
        problems.append(f"features() does not use the variants {sorted(unknown)}")
    if unknown := optional - set(cargo["features"]):
        problems.append(f"Cargo.toml has no features {sorted(unknown)}")
    rust = f"rust@{cargo['workspace']['package']['rust-version']}:"
    if rust not in calls(tree, "depends_on"):
        problems.append(f"it does not depend on {rust}")
    for problem in problems:
        print(f"{RECIPE}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
