// One picture on or back in a paused video, as far as the browser still holds them.

const GUESS_S = 0.04
const WAIT_MS = 1500
const LOOK_MS = 30
const LONGEST_S = 1

/** Where a step leads; null when nothing is held there. ``ranges`` are start and end of what is held, seconds. */
export function target(at: number, by: 1 | -1, frameS: number, ranges: readonly (readonly [number, number])[]): number | null {
  const next = at + by * frameS
  const held = ranges.some(([start, end]) => next >= start - frameS / 10 && next < end - frameS / 10)
  return held ? Math.max(0, next) : null
}

/** The length of a frame after one more was shown; what is no step of a running picture is left out. */
export function frameLength(known: number, before: number, now: number): number {
  const passed = now - before
  return passed > 0.001 && passed < LONGEST_S ? (known * 3 + passed) / 4 : known
}

/** Learns how long a frame is while the video runs, and steps while it is held. */
export class FrameStepper {
  private frameS = GUESS_S
  private last = -1
  private handle = 0

  constructor(private readonly video: HTMLVideoElement) {
    this.watch()
  }

  hold(): void {
    this.video.pause()
  }

  release(): void {
    void Promise.resolve(this.video.play()).catch(() => undefined)
  }

  /** Show the next or the last picture; the seconds moved, 0 when the browser has none. */
  step(by: 1 | -1): number {
    const { buffered } = this.video
    const ranges = Array.from({ length: buffered.length }, (_, index) => [buffered.start(index), buffered.end(index)] as const)
    const next = target(this.video.currentTime, by, this.frameS, ranges)
    if (next === null) return 0
    this.video.pause()
    this.video.currentTime = next
    return by * this.frameS
  }

  /** Show the newest picture once it has come; false when none came. */
  async follow(): Promise<boolean> {
    const before = this.video.currentTime
    for (let waited = 0; waited < WAIT_MS; waited += LOOK_MS) {
      const { buffered } = this.video
      const newest = buffered.length === 0 ? 0 : buffered.end(buffered.length - 1) - this.frameS / 2
      if (newest > before + this.frameS / 4) {
        this.video.currentTime = newest
        return true
      }
      await new Promise((resolve) => window.setTimeout(resolve, LOOK_MS))
    }
    return false
  }

  close(): void {
    this.video.cancelVideoFrameCallback?.(this.handle)
  }

  private watch(): void {
    if (typeof this.video.requestVideoFrameCallback !== 'function') return
    this.handle = this.video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (this.last >= 0 && !this.video.paused) this.frameS = frameLength(this.frameS, this.last, mediaTime)
      this.last = mediaTime
      this.watch()
    })
  }
}
