def send(
    MESSAGE: str,
    MESSAGE_ID: str | None = None,
    CODE_FILE: str | None = None,
    CODE_LINE: int | None = None,
    CODE_FUNC: str | None = None,
    **kwargs: object,
) -> None: ...
