"""The names of columns by which a file of labels is understood, in any case and spelling."""

from gentool.data.sources.selection import IMAGE_SUFFIXES

NAME_WORDS = (
    "filename", "filepath", "imagepath", "imagefilename", "imagename", "imagefile", "imgpath",
    "imgname", "imgfile", "relativepath", "relpath", "path", "file", "image", "img", "picture",
    "photo", "fname", "filenames", "filepaths", "imagepaths", "paths", "files", "images",
    "imageid", "imgid", "pictureid", "photoid", "fileid", "sampleid", "id", "uid", "uuid", "key",
    "name", "sample",
)  # fmt: skip
LABEL_WORDS = frozenset({
    "label", "labels", "class", "classes", "category", "categories", "target", "targets",
    "classname", "classid", "classlabel", "classnumber", "labelname", "labelid", "labelnumber",
    "categoryname", "categoryid", "targetname", "targetid", "classindex", "labelindex", "classidx",
    "labelidx", "imagelabel", "imageclass", "groundtruth", "labeltext", "classtext", "cls",
})  # fmt: skip
INDEX_WORDS = frozenset(
    {"", "index", "idx", "no", "nr", "number", "row", "rowid", "level0", "unnamed", "unnamed0"}
)
CAPTION_WORDS = frozenset({
    "text", "texts", "caption", "captions", "prompt", "prompts", "negativeprompt", "description",
    "descriptions", "alt", "alttext", "title",
})  # fmt: skip
MEASURE_WORDS = frozenset({
    "age", "ages", "year", "score", "rating", "aesthetic", "aesthetics", "aestheticscore", "price",
    "temperature", "angle", "weight", "bmi", "distance", "depth", "intensity", "brightness",
    "confidence", "probability", "latitude", "longitude", "lat", "lon", "value",
})  # fmt: skip
# Columns that describe an image and are no class unless they are asked for by name.
OTHER_WORDS = CAPTION_WORDS | frozenset({
    "url", "link", "source", "author", "license", "width", "height", "size", "bytes", "format",
    "mode", "md5", "sha1", "sha256", "hash",
    "seed", "split", "fold", "subset", "dataset", "usage", "date",
    "time", "timestamp", "bbox", "boxes", "objects", "xmin", "xmax", "ymin", "ymax", "x", "x1",
    "x2", "y1", "y2",
})  # fmt: skip
_SUFFIXES = tuple(IMAGE_SUFFIXES)


def fold_word(column: str) -> str:
    """Return a column's name in lower case without spaces and signs: ``File_Name`` -> filename."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def has_image_suffix(word: str) -> bool:
    """Return whether a text ends like the name of an image file."""
    return word.rstrip().lower().endswith(_SUFFIXES)
