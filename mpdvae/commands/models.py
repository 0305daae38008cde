"""The command `models`, which lists the trained models that come with the package."""


def list_models() -> None:
    """List the trained models that come with the package.

    Their names stand for folders: mpdvae explore NAME, mpdvae.load("NAME").
    """
    from rich.table import Table

    from mpdvae.sharing import shipped
    from mpdvae.workflows.progress_display import plain, stdout

    console = stdout()
    rows = [shipped.described(name) for name in shipped.trained_models()]
    if rows:
        table = Table(*rows[0], box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*map(plain, row.values()))
        console.print(table)
    console.print(plain(f"\nEach has a card with all numbers and the protocol: NAME/README.md in {shipped.FOLDER}"))
