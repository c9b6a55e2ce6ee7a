"""An exported model on the Hugging Face hub, in one commit with its card."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowgen.core import InputError

CARD, PICTURE = "README.md", "samples.png"
"""Names in a repository beside those of what is exported."""


class Hub:
    """A repository of models that its user may write to.

    Args:
        repo_id: ``<user or organisation>/<name>``.
        private: Whether a new repository is private; an existing public one is then refused.

    Raises:
        InputError: If the name is malformed, there is no token, the hub cannot be reached, or it
            does not know the token.
    """

    def __init__(self, repo_id: str, *, private: bool = False) -> None:
        from huggingface_hub import HfApi, constants, get_token
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        owner, _, name = repo_id.partition("/")
        if not owner or not name:
            raise InputError(f"push_to_hub={repo_id}: give <user or organisation>/<name>")
        try:
            validate_repo_id(repo_id)
        except HFValidationError as error:
            raise InputError(f"push_to_hub={repo_id}: {_first_line(error)}") from error
        if constants.HF_HUB_OFFLINE:
            raise InputError(f"push_to_hub={repo_id}: HF_HUB_OFFLINE is set; unset it to upload")
        if get_token() is None:
            raise InputError(
                f"push_to_hub={repo_id}: there is no token of the hub: run hf auth login, or set "
                "HF_TOKEN to one with the right to write"
            )
        self.repo_id, self.private = repo_id, private
        self._api = HfApi(library_name="flowgen")
        with self._told():
            self._api.whoami()

    def push(self, exported: Path, name: str, card: str, picture: Path | None) -> str:
        """Upload what was exported, and return the address of the repository.

        Args:
            exported: A file, or a folder whose files keep their names.
            name: What a file is called there; of a folder it is not used.
            card: Text of ``README.md``.
            picture: PNG that becomes ``samples.png``, or None.

        Raises:
            InputError: If the hub refuses, cannot be reached any more, or the repository is public
                and was to be private. What was exported stays where it is.
        """
        from huggingface_hub import CommitOperationAdd

        parts: dict[str, Path | bytes] = {name: exported}
        if exported.is_dir():
            files = sorted(file for file in exported.rglob("*") if file.is_file())
            parts = {file.relative_to(exported).as_posix(): file for file in files}
        parts[CARD] = card.encode()
        if picture is not None:
            parts[PICTURE] = picture.read_bytes()
        operations = [CommitOperationAdd(place, content) for place, content in parts.items()]
        with self._told():
            url = self._api.create_repo(self.repo_id, private=self.private, exist_ok=True)
            if self.private and not self._api.repo_info(self.repo_id).private:
                raise InputError(
                    f"push_to_hub={self.repo_id}: the repository exists and is public: make it "
                    "private first, give another name, or private=false. Nothing was uploaded"
                )
            self._api.create_commit(self.repo_id, operations, commit_message="Export of flowgen")
        return str(url)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell in one line what the hub or the network says."""
        from huggingface_hub.utils import HfHubHTTPError

        # The base of the client's own errors: its library differs between versions.
        client: type[Exception] = HfHubHTTPError.__bases__[0]  # pyright: ignore[reportAssignmentType]
        try:
            yield
        except InputError:
            raise
        except (client, OSError, ValueError, RuntimeError) as error:
            code = getattr(getattr(error, "response", None), "status_code", None)
            why = f"the hub answers {code}: " if code else "the hub cannot be reached: "
            raise InputError(f"push_to_hub={self.repo_id}: {why}{_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    return told[0].rstrip(".") if told else type(error).__name__
