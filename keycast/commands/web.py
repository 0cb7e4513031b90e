"""`keycast web`: let people into the page of a gateway."""

import sys
from typing import Annotated

import typer

from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, ask, refuse, sentences

app = typer.Typer(no_args_is_help=True)


@app.command("password")
def set_password(
    config: ConfigOption = DEFAULT_CONFIG,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from the first line of standard input.")] = False,
) -> None:
    """Set the password of the page. It counts at once, and everybody who is logged in has to log in again.

    Example: keycast web password
    """
    from gateway_agent.config.load import load
    from gateway_agent.web import password

    with sentences():
        state = load(config).gateway.state_dir
        text = sys.stdin.readline().rstrip("\r\n") if stdin else _asked()
        password.set_password(state, text)
    answer({"file": str(state / password.FILE)}, "The password of the page is set.")


@app.command()
def link(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make a URL that logs in once, for a person who has no password, or whose password was tried too often.

    It is for your eyes: whoever has it first is let in. Example: keycast web link
    """
    from gateway_agent.config.load import load

    with sentences():
        if getattr(load(config), "web", None) is None:
            refuse(f"{config} has no page. Write [web] into it, then start the gateway again.", "not-allowed")
    made = ask(config, None, "web.link")
    which = "It" if len(made["urls"]) == 1 else "One of these"
    answer(made, *made["urls"], f"{which} logs in once, within {made['seconds'] // 60} minutes.")


def _asked() -> str:
    if not sys.stdin.isatty():
        refuse("there is no terminal to ask for the password: write it to standard input, and add --stdin")
    text: str = typer.prompt("Password of the page", hide_input=True, confirmation_prompt=True)
    return text
