"""What the dictionary says of each recording: facts (media), harmless notes, and damage, which alone decides the exit code."""

import json

from typer.testing import CliRunner

from mien.cli import app

RUNNER = CliRunner()


def test_notes_and_media_are_told_and_leave_the_exit_code_alone(tmp_path, clip, monkeypatch):
    from mien.sources.video.decoder import Video

    opened = Video.__init__

    def noted(self, *args, **kwargs):
        opened(self, *args, **kwargs)
        self.note("a harmless fact")
        self.note("a harmless fact")

    monkeypatch.setattr(Video, "__init__", noted)
    for again in (False, True):
        done = RUNNER.invoke(app, ["analyze", str(clip), "--out", str(tmp_path), "--every", "2"])
        assert done.exit_code == 0, done.output
        assert ("done before" in done.output) == again
        assert done.output.count("note: ") == 1
        page = json.loads((tmp_path / "clip.dictionary.json").read_text())
        assert page["notes"] == [f"{clip}: a harmless fact"]
        assert (page["problems"], len(page["media"])) == ([], 1)
