"""The former place of `mien.train.builtin.mien_xs`, for one release."""

from warnings import warn

from mien.train.builtin.mien_xs import main

if __name__ == "__main__":
    warn("mien.train.mien_xs is now mien.train.builtin.mien_xs", DeprecationWarning, stacklevel=1)
    main()
