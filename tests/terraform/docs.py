"""The tables of variables and outputs in the modules' READMEs, made from the modules: python -m tests.terraform.docs"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.terraform import hcl
from tests.terraform.hcl import Module


def tables(module: Module) -> str:
    """Every variable (the required ones first) and every output, as Markdown."""
    variables = sorted(module.variables.items(), key=lambda item: "default" in item[1])
    rows = ["| variable | type | default | |", "|---|---|---|---|"]
    for name, variable in variables:
        kind = re.sub(r"\$\{|\(.*", "", str(variable["type"]), flags=re.DOTALL)
        secret = ", sensitive" if variable.get("sensitive") else ""
        default = f"`{_default(variable['default'])}`" if "default" in variable else "**required**"
        rows.append(f"| `{name}` | {kind}{secret} | {default} | {_plain(variable['description'])} |")
    rows += ["", "| output | |", "|---|---|"]
    rows += [f"| `{name}` | {_plain(output['description'])} |" for name, output in module.outputs.items()]
    return "\n".join(rows)


def _plain(text: str) -> str:
    return hcl.text(text).replace("$${", "${").replace("|", "\\|")


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("${null}", "null").replace('"', "") if value != {} else "{}"


def written(path: Path, table: str) -> str:
    """The README at `path` with its tables as they ought to be."""
    return re.sub(
        r"(<!-- variables -->\n).*?(\n<!-- /variables -->)",
        lambda found: found[1] + table + found[2],
        path.read_text(),
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for each in hcl.modules():
        readme = each.folder / "README.md"
        readme.write_text(written(readme, tables(each)))
