import mpegts from 'mpegts.js'

export type PlayerEvent =
  | { kind: 'picture' }
  | { kind: 'stalled'; seconds: number }
  | { kind: 'unplayable'; reason: 'hevc' | 'decode' | 'network'; detail: string }
  | { kind: 'ended' }

const STALL_AFTER_MS = 3000

/** True when this browser decodes the codec the platform named. */
export function canPlay(codec: string | undefined): boolean {
  if (codec !== 'h265') return true
  return typeof MediaSource !== 'undefined' && MediaSource.isTypeSupported('video/mp4; codecs="hvc1.1.6.L93.B0"')
}

/** One live picture in one video element. `close` is idempotent and leaves no connection. */
export class LivePlayer {
  private player: mpegts.Player | null = null
  private watch = 0
  private lastTime = -1
  private lastMoved = 0
  private hasPicture = false

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly on: (event: PlayerEvent) => void,
  ) {}

  /** Sound other than AAC is left out here, and the picture where there is none: the browser's media pipeline has no G.711, and would stop at it. */
  open(url: string, audio: string, hasVideo = true): void {
    this.close()
    const player = mpegts.createPlayer(
      { type: 'flv', url: new URL(url, location.href).href, isLive: true, hasAudio: audio === 'aac', hasVideo, cors: true },
      {
        isLive: true,
        enableStashBuffer: false,
        liveBufferLatencyChasing: true,
        liveBufferLatencyMaxLatency: 1.2,
        liveBufferLatencyMinRemain: 0.25,
        autoCleanupSourceBuffer: true,
      },
    )
    this.player = player
    player.on(mpegts.Events.ERROR, (type: string, detail: string) => this.fail(type, detail))
    player.on(mpegts.Events.LOADING_COMPLETE, () => this.on({ kind: 'ended' }))
    player.attachMediaElement(this.video)
    player.load()
    void Promise.resolve(player.play()).catch(() => undefined)
    this.lastMoved = performance.now()
    this.watch = window.setInterval(() => this.look(), 200)
  }

  close(): void {
    window.clearInterval(this.watch)
    this.player?.destroy()
    this.player = null
    this.hasPicture = false
    this.lastTime = -1
  }

  private fail(type: string, detail: string): void {
    const reason = type === mpegts.ErrorTypes.NETWORK_ERROR ? 'network' : 'decode'
    this.on({ kind: 'unplayable', reason, detail })
  }

  private look(): void {
    const now = performance.now()
    if (this.video.currentTime !== this.lastTime && this.video.readyState >= 2) {
      this.lastTime = this.video.currentTime
      this.lastMoved = now
      if (!this.hasPicture) {
        this.hasPicture = true
        this.on({ kind: 'picture' })
      } else {
        this.on({ kind: 'stalled', seconds: 0 })
      }
    } else if (this.hasPicture && now - this.lastMoved > STALL_AFTER_MS) {
      this.on({ kind: 'stalled', seconds: Math.round((now - this.lastMoved) / 1000) })
    }
  }
}
