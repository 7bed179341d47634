import { describe, expect, it } from 'vitest'

import type { SessionQuality } from '../api/types'
import { figures } from './figures'

const none: SessionQuality = {
  windowSec: 2, bitrateKbps: null, frameRate: null, lossRate: null, jitterMs: 0, delayMs: null,
  reportDelayMs: null, keyIntervalMs: null, lostPackets: 0, kernelDrops: 0,
}
const texts = (changes: Partial<SessionQuality>) => figures({ ...none, ...changes }).map((one) => one.text)

describe('figures', () => {
  it('tells what is not known by a dash', () => {
    expect(texts({})).toEqual(['—', '—', '—', '0.0 ms', '—'])
  })

  it('tells rates and times with their units', () => {
    const told = texts({ bitrateKbps: 704.7, frameRate: 12.95, lossRate: 0, jitterMs: 1.71, delayMs: 2.5 })
    expect(told).toEqual(['705 kbit/s', '12.9 fps', '0.00 %', '1.7 ms', '2.5 ms'])
    expect(texts({ bitrateKbps: 4096 })[0]).toBe('4.1 Mbit/s')
  })

  it('never rounds a loss away', () => {
    expect(texts({ lossRate: 0.00001 })[2]).toBe('< 0.01 %')
    expect(texts({ lossRate: 0.0123 })[2]).toBe('1.23 %')
  })
})
