import { describe, expect, it } from 'vitest'

import { Downsampler } from './downsample'
import { encodeAlaw, loudness, toAlaw, toLinear } from './g711'

function tone(hz: number, rateHz: number, seconds: number): Float32Array {
  return Float32Array.from({ length: rateHz * seconds }, (_, n) => 0.5 * Math.sin((2 * Math.PI * hz * n) / rateHz))
}

const power = (samples: Float32Array): number => samples.reduce((sum, one) => sum + one * one, 0) / samples.length

describe('encodeAlaw', () => {
  it('codes as ITU-T G.711 does', () => {
    expect([0, -1, 1000, 32_767, -32_768].map(encodeAlaw)).toEqual([0xd5, 0x55, 0xfa, 0xaa, 0x2a])
  })

  it('is undone within the step of its segment', () => {
    for (let sample = -32_000; sample <= 32_000; sample += 371) {
      const back = (toLinear(Uint8Array.of(encodeAlaw(sample)), 'alaw')[0] ?? 0) * 32_768
      expect(Math.abs(back - sample)).toBeLessThanOrEqual(Math.max(16, Math.abs(sample) / 16))
    }
  })
})

describe('toLinear', () => {
  it('knows u-law as well', () => {
    expect([...toLinear(Uint8Array.of(0xff, 0x00, 0x80), 'ulaw')].map((one) => Math.round(one * 32_768))).toEqual([0, -32_124, 32_124])
  })
})

describe('loudness', () => {
  it('is nothing for silence and most of the scale for speech', () => {
    expect(loudness(new Float32Array(160))).toBe(0)
    expect(loudness(tone(440, 8000, 0.1))).toBeGreaterThan(0.8)
  })
})

describe('Downsampler', () => {
  for (const rate of [48_000, 44_100, 16_000]) {
    it(`keeps speech and takes out what would fold, from ${rate} Hz`, () => {
      const kept = new Downsampler(rate, 8000)
      const gone = new Downsampler(rate, 8000)
      const heard: number[] = []
      const folded: number[] = []
      const [speech, hiss] = [tone(1000, rate, 1), tone(6000, rate, 1)]
      for (let at = 0; at < rate; at += 128) {
        heard.push(...kept.push(speech.slice(at, at + 128)))
        folded.push(...gone.push(hiss.slice(at, at + 128)))
      }
      expect(Math.abs(heard.length - 8000)).toBeLessThan(30)
      expect(power(Float32Array.from(heard.slice(100)))).toBeCloseTo(0.125, 2)
      expect(power(Float32Array.from(folded.slice(100)))).toBeLessThan(0.001)
    })
  }

  it('codes what it made', () => {
    expect(toAlaw(new Downsampler(48_000, 8000).push(new Float32Array(960)))).toSatisfy((coded: Uint8Array) => coded.every((one) => one === 0xd5))
  })
})
