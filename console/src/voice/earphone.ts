// Sound of a device in this browser. G.711 is decoded here: no browser plays it from a stream.

import { LivePlayer } from '../player/player'
import { SoundReader } from './flv'
import { RATE_HZ, type Law, loudness, toLinear } from './g711'

const AHEAD_S = 0.2
const MOST_AHEAD_S = 1

export interface Ear {
  onHeard: (loudness: number) => void
  /** The end; ``error`` is empty when the sound simply ended. */
  onEnded: (error: string) => void
}

/** Plays what one address of FLV carries until ``close``. */
export class Earphone {
  private readonly context = new AudioContext({ latencyHint: 'interactive' })
  private readonly gain = this.context.createGain()
  private readonly aborting = new AbortController()
  private player: LivePlayer | null = null
  private next = 0

  constructor(private readonly ear: Ear) {
    this.gain.connect(this.context.destination)
  }

  /** ``codec`` is what the platform says of the sound; AAC is the browser's to play. */
  open(url: string, codec: string): void {
    void this.context.resume()
    if (codec === 'aac') this.playAac(url)
    else void this.read(url)
  }

  /** Quiet while one speaks oneself, so that the device does not hear itself. */
  set isQuiet(quiet: boolean) {
    this.gain.gain.value = quiet ? 0 : 1
  }

  close(): void {
    this.aborting.abort()
    this.player?.close()
    this.player = null
    if (this.context.state !== 'closed') void this.context.close().catch(() => undefined)
  }

  private playAac(url: string): void {
    const video = document.createElement('video')
    this.context.createMediaElementSource(video).connect(this.gain)
    this.player = new LivePlayer(video, (event) => {
      if (event.kind === 'picture') this.ear.onHeard(0.5)
      else if (event.kind === 'ended') this.ear.onEnded('')
      else if (event.kind === 'unplayable') this.ear.onEnded(event.detail)
    })
    this.player.open(url, 'aac', false)
  }

  private async read(url: string): Promise<void> {
    const reader = new SoundReader()
    try {
      const response = await fetch(url, { signal: this.aborting.signal })
      if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`)
      const stream = response.body.getReader()
      for (;;) {
        const { done, value } = await stream.read()
        if (done) break
        for (const { law, samples } of reader.push(value)) if (law !== 'other') this.play(samples, law)
      }
      this.ear.onEnded('')
    } catch (error) {
      if (!this.aborting.signal.aborted) this.ear.onEnded(error instanceof Error ? error.message : String(error))
    }
  }

  /** Behind what is being heard, a little later for jitter; what would come much too late is left out. */
  private play(coded: Uint8Array, law: Law): void {
    const samples = toLinear(coded, law)
    this.ear.onHeard(loudness(samples))
    const now = this.context.currentTime
    if (this.next < now) this.next = now + AHEAD_S
    if (samples.length === 0 || this.next - now > MOST_AHEAD_S) return
    const buffer = this.context.createBuffer(1, samples.length, RATE_HZ)
    buffer.copyToChannel(samples, 0)
    const source = this.context.createBufferSource()
    source.buffer = buffer
    source.connect(this.gain)
    source.start(this.next)
    this.next += buffer.duration
  }
}
