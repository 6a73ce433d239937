"""Find pictures among the images that gentool itself made, such as sheets and samples.

They are recognised by their recipe, never by their name. A listing does not open every file: it
opens the newest files of each folder (in an archive, the first), as long as most of them are
gentool's own. A picture that is not found so is recognised when it is read, and left out then.
Opens no file itself.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from gentool.core.picture_files import may_hold_recipe, read_recipe
from gentool.data.encoded import BadImage
from gentool.data.intake import OWN_PICTURE
from gentool.data.kinds import HEAD_BYTES

_SUFFIXES = (b".png", b".jpg", b".jpeg", b".webp", b".gif")  # of what gentool writes
_MISSES = 8  # pictures of others that are opened in a folder
ALL_MISSES = 1000  # and in all folders of a source
K = TypeVar("K", bound=Hashable)  # what stands for a file


def is_own(content: bytes) -> bool:
    """Return whether a file is a picture that gentool made."""
    return may_hold_recipe(content[:HEAD_BYTES]) and read_recipe(content) is not None


def refuse_own(content: bytes) -> bytes:
    """Return the content of an image file.

    Raises:
        BadImage: gentool made it.
    """
    if is_own(content):
        raise BadImage(OWN_PICTURE)
    return content


class OwnPictures(Generic[K]):
    """Finds pictures of gentool, and limits how many files are opened for that.

    Args:
        name: Returns the name of a file.
        head: Returns its first bytes, b"" if it cannot be read.
        whole: Returns all its bytes, b"" if it cannot be read.
    """

    def __init__(
        self,
        name: Callable[[K], bytes],
        head: Callable[[K], bytes],
        whole: Callable[[K], bytes],
    ) -> None:
        self._name, self._head, self._whole = name, head, whole
        self._left = ALL_MISSES

    def among(self, files: Iterable[K]) -> set[K]:
        """Return those of the images of one folder that gentool made, as far as they are found.

        Args:
            files: The images, the most likely ones first.
        """
        found: set[K] = set()
        misses = 0
        for file in files:
            if misses == _MISSES or not self._left:
                break
            if not self._name(file).lower().endswith(_SUFFIXES):
                continue
            if may_hold_recipe(self._head(file)) and is_own(self._whole(file)):
                found.add(file)
            else:
                misses, self._left = misses + 1, self._left - 1
        return found
