/** The film's clock: plays, pauses, steps, shuttles, with or without a film that the browser can show. */
import { signal } from "@preact/signals";

const RATES = [1, 2, 4, 8];

export class Player {
  readonly time = signal(0);
  readonly playing = signal(false);
  /** Times the film's own speed; negative: backwards. */
  readonly rate = signal(1);
  private video: HTMLVideoElement | null = null;
  private timer = 0;
  private callback = 0;

  constructor(
    readonly end: number,
    readonly fps: number,
    /** What to add to times for the film's own clock. */
    public offset = 0,
  ) {}

  get hasFilm(): boolean {
    return this.video !== null;
  }

  /** Follow a video element; what this returns lets go of it. */
  attach(video: HTMLVideoElement): () => void {
    this.video = video;
    const onFrame = (_now: number, frame: VideoFrameCallbackMetadata) => {
      // The frame that is seen, not the clock, which runs ahead of it. While the film stands, a frame far from where it
      // was sent is one that came before it got there.
      const seen = Math.max(0, frame.mediaTime - this.offset);
      const near = Math.abs(seen - this.time.value) < 1.5 / this.fps;
      if (!video.paused || near) this.time.value = Math.min(seen, this.end);
      this.callback = video.requestVideoFrameCallback(onFrame);
    };
    this.callback = video.requestVideoFrameCallback(onFrame);
    const onPlay = () => (this.playing.value = true);
    const onPause = () => {
      if (!this.timer) this.playing.value = false;
    };
    const onReady = () => {
      if (Math.abs(video.currentTime - this.offset - this.time.value) > 0.5 / this.fps) this.show(this.time.value);
    };
    video.addEventListener("play", onPlay);
    video.addEventListener("pause", onPause);
    video.addEventListener("loadedmetadata", onReady);
    return () => {
      video.cancelVideoFrameCallback(this.callback);
      video.removeEventListener("play", onPlay);
      video.removeEventListener("pause", onPause);
      video.removeEventListener("loadedmetadata", onReady);
      if (this.video === video) this.video = null;
      this.playing.value = false;
    };
  }

  private show(time: number) {
    // A little into the frame, so that rounding does not show the one before it.
    if (!this.video) return;
    const wanted = time + this.offset + 0.2 / this.fps;
    this.video.currentTime = Math.min(wanted, this.video.duration || wanted);
  }

  seek(time: number) {
    this.time.value = Math.min(Math.max(0, time), this.end);
    this.show(this.time.value);
  }

  private stopTimer() {
    clearInterval(this.timer);
    this.timer = 0;
  }

  pause() {
    this.stopTimer();
    this.video?.pause();
    this.playing.value = false;
    this.rate.value = 1;
  }

  play(rate = 1) {
    if (!this.video) return;
    this.stopTimer();
    this.rate.value = rate;
    if (rate > 0) {
      if (this.time.value >= this.end - 1 / this.fps) this.seek(0);
      this.video.playbackRate = rate;
      // Refused while the film has not loaded; the button stays as it was then.
      this.video.play().catch(() => this.pause());
      return;
    }
    // Browsers play forwards only: backwards is a step at a time, each once the one before it is seen.
    this.video.pause();
    this.playing.value = true;
    const step = 0.08;
    this.timer = window.setInterval(() => {
      if (this.time.value <= 0) this.pause();
      else if (!this.video?.seeking) this.seek(this.time.value + rate * step);
    }, step * 1000);
  }

  toggle() {
    if (this.playing.value) this.pause();
    else this.play();
  }

  /** J and L: faster each time, in that direction. */
  shuttle(direction: 1 | -1) {
    const now = this.playing.value && Math.sign(this.rate.value) === direction ? Math.abs(this.rate.value) : 0;
    const faster = RATES.find((rate) => rate > now) ?? RATES[RATES.length - 1] ?? 1;
    this.play(direction * faster);
  }

  close() {
    this.stopTimer();
    this.video?.pause();
  }
}
