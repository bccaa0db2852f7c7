"""The former place of `mien.train.builtin.mien_s`, for one release."""

from warnings import warn

from mien.train.builtin.mien_s import main

if __name__ == "__main__":
    warn("mien.train.mien_s is now mien.train.builtin.mien_s", DeprecationWarning, stacklevel=1)
    main()
