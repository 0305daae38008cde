"""Hostile text that must be shown as plain text everywhere: in reports, model cards, terminals and trackers."""

HOSTILE = {
    "script": "</script><script>alert(1)</script><!--",
    "attribute": "\" onmouseover='alert(1)' x=\"",
    "templates": "%{x} {{ 7 * 7 }} {% raw %} ${alert(1)} <b>bold</b>",
    "separators": "a\u2028b\u2029c\u0085d",
    "terminal": "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "lines": "a\nb\r\n---\n# c\n| d |\rlicense: mit",
    "rich": "[red]x[/red][/] [link=file:///]y[/link] :warning:",
    "markdown": "| a | `b` ``` * _ # [x](javascript:alert(1)) <img src=x onerror=alert(1)> \\",
    "direction": "a\u202eb\u2066c",
    "nothing": "a\x00b",
    "yaml": "--- !!python/object:os.system {\"a\": 'b'} : - # &x *x",
    "comment": "--> ]]> <!-- */ // ",
}
