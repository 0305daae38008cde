"""Short titles of the studies of a report: the data set, and what tells studies on the same one apart.

A title stands in the head of a narrow column and in sentences. It says no more than is needed: "mnist" beside "cifar10", but
"mnist (static binarisation)" beside "mnist (dynamic binarisation)".
"""

import json
from collections.abc import Sequence

from mpdvae.report.collect import Setting


def titles(settings: Sequence[Setting]) -> list[str]:
    """Returns the title of each study, in order; all different."""
    phrases = [_phrases(setting) for setting in settings]
    made = []
    for setting, own in zip(settings, phrases, strict=True):
        rivals = [other for s, other in zip(settings, phrases, strict=True) if s.dataset == setting.dataset]
        common = set.intersection(*map(set, rivals))
        told = [phrase for phrase in own if phrase not in common]
        made.append(f"{setting.dataset} ({', '.join(told)})" if told else setting.dataset)
    return made


def _phrases(setting: Setting) -> list[str]:
    """Returns everything in which two studies on one data set may differ, as phrases without commas."""
    amounts = json.loads(setting.representation)
    codes = [f"{name.replace('_', ' ')} {count}" for name, count in amounts.items()]
    measured = setting.measured.replace(", ", "\n").splitlines()
    protocol = setting.protocol.replace("; ", ", ").replace(", ", "\n").splitlines()
    diagnosed = f"diagnosed on {setting.diagnosed_images:,} images"
    return [f"scale {setting.scale}", *protocol, *measured, diagnosed, *codes, f"data {setting.data_hash[:8]}"]
