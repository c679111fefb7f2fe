"""second_scale.py: `lab scale N`: does a WIN at one size hold at a second one? Until then it is PROVISIONAL.

The same change, axis and effect, declared and judged anew as a try of its own; not counted as the same again. What comes of it is an
event of the ledger beside the first verdict, which stays as it is."""
import os

import home as homes
import ledger
import tries
from home import LabError


def confirm(home, number, name, say=print):
    first = tries.find(home, number)
    folder = tries.folder_of(home, first)
    word = (homes.read_json(os.path.join(folder, "verdict.json")) or {}).get("word")
    if word != "WIN":
        raise LabError("try %s: its verdict is %s: only a WIN is confirmed" % (first["try"], word or "not there yet"))
    if name == first["scale"]:
        raise LabError("--scale: %s given, must be another than that of try %s" % (name, first["try"]))
    axis = {v: k for k, v in tries.AXES.items()}[first["axis"]]
    hypothesis = "it holds at a second scale: " + first["hypothesis"]
    plan = tries.unfinished(home, first["branch"], hypothesis, axis, first["effect"], name, first["options"]) or tries.begin(
        home, first["commit"], hypothesis, axis, first["effect"], name, first["options"], first["base_commit"], confirms=first["try"], say=say, label=first["branch"])
    second = tries.go_on(home, plan, say)
    holds = second.word == "WIN"
    ledger.append(home, "scale", **{"try": first["try"]}, first=first["scale"], second=name, by=plan["try"], word="WIN" if holds else "PROVISIONAL", holds="yes" if holds else "no")
    home.commit("try %s at a second scale: %s" % (first["try"], "holds" if holds else "does not hold"))
    say("try %s: %s" % (first["try"], "WIN at %s and at %s" % (first["scale"], name) if holds else "PROVISIONAL: a WIN at %s, %s at %s" % (first["scale"], second.word, name)))
    return holds
