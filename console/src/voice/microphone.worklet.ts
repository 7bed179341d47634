// Runs on the browser's audio thread: what the microphone hears becomes frames of G.711 of twenty milliseconds.

import { Downsampler } from './downsample'
import { RATE_HZ, loudness, toAlaw } from './g711'

/** One frame; ``loudness`` is 0 to 1. */
export interface Spoken {
  coded: Uint8Array<ArrayBuffer>
  loudness: number
}

// What the audio thread has besides; no library of types names it.
declare const sampleRate: number
declare class AudioWorkletProcessor {
  readonly port: MessagePort
}
declare function registerProcessor(name: string, made: new () => AudioWorkletProcessor): void

const FRAME = RATE_HZ / 50

class Microphone extends AudioWorkletProcessor {
  private readonly slower = new Downsampler(sampleRate, RATE_HZ)
  private held: number[] = []

  process(inputs: Float32Array[][]): boolean {
    const heard = inputs[0]?.[0]
    if (heard !== undefined) this.held.push(...this.slower.push(heard))
    while (this.held.length >= FRAME) {
      const frame = Float32Array.from(this.held.splice(0, FRAME))
      const coded = toAlaw(frame)
      this.port.postMessage({ coded, loudness: loudness(frame) } satisfies Spoken, [coded.buffer])
    }
    return true
  }
}

registerProcessor('tongshi-microphone', Microphone)
