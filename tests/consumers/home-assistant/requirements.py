"""Prints what the integrations that the test needs want from PyPI. Home Assistant would install
that itself while it starts; run by its own python."""

import json
import pathlib

import homeassistant
from homeassistant import bootstrap

COMPONENTS = pathlib.Path(homeassistant.__file__).parent / "components"
# mqtt imports a part of hassio.
ahead = {"mqtt", "hassio", "energy", "config", "recorder", "onboarding", "isal",
         *bootstrap.CORE_INTEGRATIONS, *bootstrap.DEFAULT_INTEGRATIONS,
         *bootstrap.CRITICAL_INTEGRATIONS}
done, wanted = set(), set()
while ahead:
    name = ahead.pop()
    done.add(name)
    path = COMPONENTS / name / "manifest.json"
    if path.exists():
        manifest = json.loads(path.read_text())
        wanted.update(manifest.get("requirements", []))
        ahead.update(set(manifest.get("dependencies", [])) - done)
print("\n".join(sorted(wanted)))
