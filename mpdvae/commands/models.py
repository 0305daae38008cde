"""The command `models`, which lists the trained models that come with the package."""


def list_models() -> None:
    """List the trained models that come with the package.

    Their names stand for folders: mpdvae explore NAME, mpdvae.load("NAME").
    """
    from mpdvae.sharing import shipped
    from mpdvae.workflows.progress_display import plain, print_line, stdout, table_of

    console = stdout()
    rows = [shipped.described(name) for name in shipped.trained_models()]
    if rows:
        table = table_of(*rows[0])
        for row in rows:
            table.add_row(*map(plain, row.values()))
        console.print(table)
    print_line(f"\nEach has a card with all numbers and the protocol: NAME/README.md in {shipped.FOLDER}", console)
