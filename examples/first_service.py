"""The service that examples/first.cfg asks: sipwright rpc serve examples/first_service.py --listen 127.0.0.1:9999."""

from sipwright.errors import RpcAnswerError

PLACES = {"alice": "in the garden", "bob": "at work"}


def where_is(user: str) -> str:
    """Tell where somebody is."""
    if user not in PLACES:
        raise RpcAnswerError(404, f"nobody knows {user}")
    return f"{user} is {PLACES[user]}"
