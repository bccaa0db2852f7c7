"""The former place of `mien.train.builtin.mien_face`, for one release."""

from warnings import warn

from mien.train.builtin.mien_face import main

if __name__ == "__main__":
    warn(
        "mien.train.mien_face is now mien.train.builtin.mien_face", DeprecationWarning, stacklevel=1
    )
    main()
