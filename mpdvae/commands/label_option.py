"""The option `--label`, the name or the number of a class (`mpdvae.data.text_labels`). Its value is text as it is: of an
option that may be absent, tyro reads "None" as absent, but a class may be called so."""

from typing import Annotated

from tyro.conf import arg

Label = Annotated[str | None, arg(constructor=str, metavar="NAME|NUMBER", help_behavior_hint="(optional)")]
