"""What went wrong with a user's input, in one sentence."""


class StudyError(Exception):
    """A study, an image or an option cannot be used.

    The message is one sentence for the user: what was found, what is accepted, what to do.
    """
